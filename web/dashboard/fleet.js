// The fleet: a row for each runtime.
import { ago, at, element, list, rows, soon } from '/assets/page.js';

const runtimes = new Map();

export const read = (workspace) => list('/api/runtimes', workspace);

export function fill({ body }) {
  runtimes.clear();
  for (const runtime of body) runtimes.set(runtime.id, runtime);
  draw();
}

export function clear() {
  fill({ body: [] });
}

/** `unknown` if the list has to be read again to know what an event is about. */
export function apply({ type, payload }) {
  if (type !== 'daemon:register') return '';
  const { runtimes: registered, action, runtime_ids: ids = [], runtime_id: id } = payload;
  if (action === 'update') return 'unknown';
  for (const runtime of registered ?? []) runtimes.set(runtime.id, runtime);
  if (action === 'delete') runtimes.delete(id);
  else {
    for (const one of ids) {
      const runtime = runtimes.get(one);
      if (!runtime) continue;
      runtime.status = action === 'online' ? 'online' : 'offline';
      runtime.last_seen_at = new Date().toISOString();
    }
  }
  draw();
  return '';
}

function row() {
  const cells = Array.from({ length: 6 }, () => element('td'));
  const made = element('tr');
  made.append(...cells);
  const show = (runtime) => {
    const { name, provider, device_info: machine, status, last_seen_at: seen, visibility } = runtime;
    [name, provider, machine, status, ago(seen), visibility].forEach((text, index) => {
      if (cells[index].textContent !== text) cells[index].textContent = text;
    });
    cells[3].dataset.status = status;
    cells[4].dataset.seen = seen ?? '';
  };
  return { element: made, show };
}

const keep = rows(at('runtimes'), 'runtime', row);

const draw = soon(() => {
  const all = [...runtimes.values()].sort((a, b) => a.created_at.localeCompare(b.created_at) || a.id.localeCompare(b.id));
  keep(all);
  at('online').textContent = `${all.filter(({ status }) => status === 'online').length} of ${all.length} online`;
  at('no-runtimes').hidden = all.length > 0;
});

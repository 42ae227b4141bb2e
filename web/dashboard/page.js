// What the parts of the page share.

export const at = (id) => document.getElementById(id);

/** The session's cookie goes along by itself; what proves that a page of the hub sent it does not. */
function proof() {
  const csrf = /(?:^|; )multica_csrf=([^;]*)/.exec(document.cookie);
  return csrf ? { 'x-csrf-token': csrf[1] } : {};
}

export async function call(path, method = 'GET', json = undefined) {
  const answer = await fetch(path, { method, headers: proof(), body: json && JSON.stringify(json) });
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status });
  return { body, headers: answer.headers };
}

/** A list, and the place in the sequence from before its first row. */
export async function list(path, workspace) {
  const { body, headers } = await call(`${path}?workspace_id=${workspace}`);
  return { body, position: { epoch: headers.get('x-event-epoch'), seq: Number(headers.get('x-event-seq')) } };
}

export function element(kind, text = '', data = {}) {
  const made = document.createElement(kind);
  made.textContent = text;
  Object.assign(made.dataset, data);
  return made;
}

export function ago(time) {
  if (!time) return 'never';
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

/** Draws soon, once for all that happens until then. */
export function soon(draw) {
  let due = null;
  return () => {
    due ??= setTimeout(() => {
      due = null;
      draw();
    }, 40);
  };
}

/**
 * Keeps a table's rows: each item has one, which stays the same element for as long as the item is there, or
 * whoever is about to click on it would miss it.
 */
export function rows(body, prefix, make) {
  const known = new Map();
  return (items) => {
    const wanted = new Set(items.map(({ id }) => id));
    for (const [id, row] of known) {
      if (wanted.has(id)) continue;
      row.element.remove();
      known.delete(id);
    }
    items.forEach((item, index) => {
      let row = known.get(item.id);
      if (!row) {
        row = make(item.id);
        row.element.id = `${prefix}-${item.id}`;
        known.set(item.id, row);
      }
      row.show(item);
      if (body.children[index] !== row.element) body.insertBefore(row.element, body.children[index] ?? null);
    });
  };
}

setInterval(() => {
  for (const cell of document.querySelectorAll('[data-seen]')) cell.textContent = ago(cell.dataset.seen);
}, 1000);

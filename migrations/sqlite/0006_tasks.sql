-- The work of agents. A task outlives the agent, the runtime, the issue and the chat that it was for,
-- so none of them is a foreign key: who removes one ends its tasks first and keeps the finished ones.

CREATE TABLE task (
    id                  blob   PRIMARY KEY,
    workspace_id        blob   NOT NULL,
    agent_id            blob   NOT NULL,
    -- The runtime whose daemon may claim it; none once that is gone.
    runtime_id          blob,
    -- What the calls of the daemon that has it are judged by, also when the runtime is gone.
    origin_runtime_id   blob   NOT NULL,
    owner_id            blob,
    daemon_id           text   NOT NULL,
    status              text   NOT NULL CHECK (status IN
                        ('queued', 'dispatched', 'running', 'waiting_local_directory', 'completed', 'failed', 'cancelled')),
    priority            integer NOT NULL,
    -- What it is for: an issue, a chat, a run of an autopilot, or, with none of them, a wish for an issue.
    issue_id            blob,
    chat_session_id     blob,
    autopilot_run_id    blob,
    -- Tasks of one agent with one key run one after the other: the issue, the chat, or the agent itself
    -- for wishes. Runs of autopilots have none.
    serial_key          blob,
    -- Said for itself, so that PostgreSQL knows how many of either kind there are.
    is_wish             boolean NOT NULL GENERATED ALWAYS AS (COALESCE(serial_key = agent_id, false)) STORED,
    trigger_comment_id  blob,
    trigger_summary     text,
    context             text,
    force_fresh_session boolean NOT NULL DEFAULT false,
    is_leader_task      boolean NOT NULL DEFAULT false,
    initiator_user_id   blob,
    attempt             integer NOT NULL DEFAULT 1,
    max_attempts        integer NOT NULL DEFAULT 2,
    parent_task_id      blob,
    -- Where the agent's own session can be taken up again.
    session_id          text,
    work_dir            text,
    wait_reason         text,
    result              text,
    error               text,
    failure_reason      text,
    dispatched_at       integer,
    started_at          integer,
    waiting_at          integer,
    completed_at        integer,
    -- Its daemon may have been restarted; unless it is heard of after this, it fails.
    orphan_check_at     integer,
    created_at          integer NOT NULL
);

-- One task of an agent waits for an issue.
CREATE UNIQUE INDEX task_pending ON task (issue_id, agent_id)
    WHERE issue_id IS NOT NULL AND status IN ('queued', 'dispatched');
-- One at a time; also what an agent's capacity is counted by.
CREATE UNIQUE INDEX task_in_flight ON task (agent_id, serial_key)
    WHERE status IN ('dispatched', 'running', 'waiting_local_directory');
-- Whether an agent works, and how much: SQLite sees that in an index of its own only.
CREATE INDEX task_at_work ON task (agent_id, status)
    WHERE status IN ('dispatched', 'running', 'waiting_local_directory');
-- What ends with an agent, or with an issue.
CREATE INDEX task_active_of_agent ON task (agent_id)
    WHERE status IN ('queued', 'dispatched', 'running', 'waiting_local_directory');
CREATE INDEX task_active_of_issue ON task (issue_id)
    WHERE issue_id IS NOT NULL AND status IN ('queued', 'dispatched', 'running', 'waiting_local_directory');
-- Who has something waiting at a runtime.
CREATE INDEX task_queued ON task (runtime_id, agent_id) WHERE status = 'queued';
-- What a runtime's daemon may claim of an agent's, best first: apart from all else its wishes, of which
-- there may be many and one runs at a time.
CREATE INDEX task_next ON task (runtime_id, agent_id, priority DESC, created_at, id)
    WHERE status = 'queued' AND NOT is_wish;
CREATE INDEX task_next_wish ON task (runtime_id, agent_id, priority DESC, created_at, id)
    WHERE status = 'queued' AND is_wish;
-- Where something of an agent's waits.
CREATE INDEX task_waiting ON task (agent_id, runtime_id) WHERE status = 'queued';
-- What a runtime's end, a restart of its daemon and a claim that was lost are about.
CREATE INDEX task_on_runtime ON task (runtime_id, status)
    WHERE status IN ('queued', 'dispatched', 'running', 'waiting_local_directory');
-- What is overdue.
CREATE INDEX task_queued_since ON task (created_at) WHERE status = 'queued';
CREATE INDEX task_dispatched_since ON task (dispatched_at) WHERE status = 'dispatched';
CREATE INDEX task_running_since ON task (started_at) WHERE status = 'running';
CREATE INDEX task_waiting_since ON task (waiting_at) WHERE status = 'waiting_local_directory';
CREATE INDEX task_suspected ON task (orphan_check_at) WHERE orphan_check_at IS NOT NULL;
-- The lists, newest first.
CREATE INDEX task_active ON task (workspace_id, created_at, id)
    WHERE status IN ('queued', 'dispatched', 'running', 'waiting_local_directory');
CREATE INDEX task_by_agent ON task (agent_id, created_at DESC, id);
CREATE INDEX task_by_issue ON task (issue_id, created_at DESC, id) WHERE issue_id IS NOT NULL;
CREATE INDEX task_by_chat ON task (chat_session_id, created_at DESC, id) WHERE chat_session_id IS NOT NULL;
-- What is to be done in a chat.
CREATE INDEX task_active_of_chat ON task (chat_session_id, created_at DESC, id) WHERE chat_session_id IS NOT NULL
    AND status IN ('queued', 'dispatched', 'running', 'waiting_local_directory');
-- How an agent's work went last.
CREATE INDEX task_last_of_agent ON task (agent_id, completed_at DESC, id DESC) WHERE status IN ('completed', 'failed');
CREATE INDEX task_by_run ON task (autopilot_run_id) WHERE autopilot_run_id IS NOT NULL;
-- What an autopilot has running, which ends with it.
CREATE INDEX autopilot_run_running ON autopilot_run (autopilot_id, created_at, id) WHERE status = 'running';
-- Work that a comment asked for.
CREATE INDEX task_by_comment ON task (trigger_comment_id) WHERE trigger_comment_id IS NOT NULL;
-- Sessions that can be taken up again.
CREATE INDEX task_resumable ON task (agent_id, issue_id, completed_at DESC)
    WHERE issue_id IS NOT NULL AND session_id IS NOT NULL AND status IN ('completed', 'failed');
CREATE INDEX task_resumable_chat ON task (chat_session_id, completed_at DESC)
    WHERE chat_session_id IS NOT NULL AND session_id IS NOT NULL AND status IN ('completed', 'failed');
-- When an agent last began to work on an issue.
CREATE INDEX task_started ON task (agent_id, issue_id, started_at DESC)
    WHERE issue_id IS NOT NULL AND started_at IS NOT NULL;

-- What a squad's leader decided about an issue in one of its tasks.
CREATE TABLE squad_evaluation (
    id           blob   PRIMARY KEY,
    workspace_id blob   NOT NULL,
    issue_id     blob   NOT NULL REFERENCES issue (id) ON DELETE CASCADE,
    squad_id     blob   NOT NULL,
    agent_id     blob   NOT NULL,
    task_id      blob,
    outcome      text   NOT NULL CHECK (outcome IN ('action', 'no_action', 'failed')),
    reason       text   NOT NULL DEFAULT '',
    created_at   integer NOT NULL
);
CREATE INDEX squad_evaluation_by_task ON squad_evaluation (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX squad_evaluation_by_issue ON squad_evaluation (issue_id, created_at);

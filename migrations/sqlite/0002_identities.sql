-- Credentials beside a person's own tokens. Secrets are stored as SHA-256 of the whole token.

-- A person's sign-in in a browser or by a CLI: what the `sid` of a session JWT names.
CREATE TABLE session (
    id         blob   PRIMARY KEY,
    user_id    blob   NOT NULL REFERENCES users (id),
    -- The token that it was opened with; it ends with it.
    token_id   blob   NOT NULL REFERENCES personal_access_token (id),
    expires_at integer NOT NULL,
    ended_at   integer,
    created_at integer NOT NULL
);
CREATE INDEX session_by_token ON session (token_id);
-- The removal of what is over.
CREATE INDEX session_by_expiry ON session (expires_at);

-- A daemon's token: one workspace, one daemon id, in the name of who made it.
CREATE TABLE daemon_token (
    id           blob   PRIMARY KEY,
    workspace_id blob   NOT NULL REFERENCES workspace (id),
    daemon_id    text   NOT NULL,
    created_by   blob   NOT NULL REFERENCES users (id),
    token_hash   blob   NOT NULL UNIQUE,
    token_prefix text   NOT NULL,
    -- NULL: never.
    expires_at   integer,
    last_used_at integer,
    created_at   integer NOT NULL
);
CREATE INDEX daemon_token_by_workspace ON daemon_token (workspace_id, created_at, id);

-- A task's token: its agent acts by it until the task ends.
CREATE TABLE task_token (
    id           blob   PRIMARY KEY,
    task_id      blob   NOT NULL,
    agent_id     blob   NOT NULL,
    workspace_id blob   NOT NULL REFERENCES workspace (id),
    -- The owner of the runtime that runs the task.
    user_id      blob   NOT NULL REFERENCES users (id),
    token_hash   blob   NOT NULL UNIQUE,
    expires_at   integer NOT NULL,
    created_at   integer NOT NULL
);
CREATE INDEX task_token_by_task ON task_token (task_id);

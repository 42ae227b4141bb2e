-- What tasks say while they run, and what they used. No foreign keys: a task's words outlive what it
-- was for, as the task does.

-- One row for each task that has said something: where its messages are, and what its daemon's
-- numbers mean. Whoever adds messages holds it, so positions are given in the order of commits.
CREATE TABLE task_stream (
    task_id      uuid   PRIMARY KEY,
    workspace_id uuid   NOT NULL,
    -- The position of the last message.
    last_pos     bigint NOT NULL DEFAULT 0,
    -- The greatest number, and what is added to the daemon's: it begins anew when the agent is run
    -- again within the task.
    last_seq     bigint NOT NULL DEFAULT 0,
    seq_offset   bigint NOT NULL DEFAULT 0,
    -- Digests of the last batches, the newest last: a batch that comes again is known by them.
    batches      text   NOT NULL DEFAULT '[]'
) WITH (fillfactor = 50);

CREATE TABLE task_message (
    task_id    uuid   NOT NULL,
    pos        bigint NOT NULL,
    seq        bigint NOT NULL,
    type       text   NOT NULL,
    tool       text,
    content    text,
    -- JSON as it came, without its secrets.
    input      text,
    output     text,
    -- What is compared when a number comes again.
    digest     bigint NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (task_id, pos)
);
CREATE UNIQUE INDEX task_message_by_seq ON task_message (task_id, seq);

-- Tokens by task and model. Each row says for itself whose they are, so that history stays when
-- agents, runtimes and projects go.
CREATE TABLE task_usage (
    task_id            uuid   NOT NULL,
    provider           text   NOT NULL,
    model              text   NOT NULL,
    workspace_id       uuid   NOT NULL,
    runtime_id         uuid   NOT NULL,
    agent_id           uuid   NOT NULL,
    issue_id           uuid,
    project_id         uuid,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    created_at         bigint NOT NULL,
    updated_at         bigint NOT NULL,
    PRIMARY KEY (task_id, provider, model)
);

-- The owner of the private agent that a task was for, once that agent is gone: who may read the task
-- stays as it was.
ALTER TABLE task ADD COLUMN private_to uuid;

-- What came of a chat's task, to be found by it.
CREATE INDEX chat_message_by_task ON chat_message (task_id) WHERE task_id IS NOT NULL;
-- What one runtime used; a merge gives it to another.
CREATE INDEX task_usage_by_runtime ON task_usage (runtime_id);
-- What a workspace's tasks said, which goes with it.
CREATE INDEX task_stream_by_workspace ON task_stream (workspace_id);

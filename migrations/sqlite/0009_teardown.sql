-- What is left of agents and runtimes that were taken apart.

-- The owner of the private agent that did an autopilot's work, once that agent is gone: it stays private.
ALTER TABLE autopilot ADD COLUMN was_private_to blob;

-- What a runtime leaves behind, finished work included.
CREATE INDEX task_of_runtime ON task (runtime_id) WHERE runtime_id IS NOT NULL;

-- When all that a removed workspace held was purged; what outlives that goes by itself.
ALTER TABLE workspace ADD COLUMN emptied_at integer;

-- What goes with its workspace, some at a time.
CREATE INDEX task_by_workspace ON task (workspace_id);
CREATE INDEX task_token_by_workspace ON task_token (workspace_id);
CREATE INDEX task_usage_by_workspace ON task_usage (workspace_id);
CREATE INDEX comment_by_workspace ON comment (workspace_id);
CREATE INDEX issue_activity_by_workspace ON issue_activity (workspace_id);
CREATE INDEX chat_session_by_workspace ON chat_session (workspace_id);

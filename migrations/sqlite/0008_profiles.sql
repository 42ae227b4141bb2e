-- Custom kinds of runtimes: a command that speaks as one of the known agent CLIs does.

CREATE TABLE runtime_profile (
    id              blob    PRIMARY KEY,
    workspace_id    blob    NOT NULL REFERENCES workspace (id),
    display_name    text    NOT NULL,
    protocol_family text    NOT NULL CHECK (protocol_family IN
                    ('claude', 'codebuddy', 'codex', 'copilot', 'opencode', 'openclaw', 'hermes', 'gemini', 'pi',
                     'cursor', 'kimi', 'kiro', 'antigravity')),
    command_name    text    NOT NULL,
    description     text,
    fixed_args      text    NOT NULL DEFAULT '[]',
    visibility      text    NOT NULL DEFAULT 'workspace' CHECK (visibility = 'workspace'),
    created_by      blob,
    enabled         boolean NOT NULL DEFAULT true,
    created_at      integer NOT NULL,
    updated_at      integer NOT NULL,
    UNIQUE (workspace_id, display_name)
);
-- The list, oldest first.
CREATE INDEX runtime_profile_by_workspace ON runtime_profile (workspace_id, created_at, id);
-- What a profile's end takes with it. No foreign key: who removes a profile removes its runtimes first.
CREATE INDEX agent_runtime_by_profile ON agent_runtime (profile_id) WHERE profile_id IS NOT NULL;

-- What a runtime's end, or its going on under another name, means for work that is over, and for chats.
CREATE INDEX task_over_on_runtime ON task (runtime_id) WHERE status IN ('completed', 'failed', 'cancelled');
CREATE INDEX chat_session_by_runtime ON chat_session (runtime_id) WHERE runtime_id IS NOT NULL;

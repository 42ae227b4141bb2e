-- The records of a team: what work is about, and who does it. Times are microseconds since the Unix
-- epoch, dates are YYYY-MM-DD. Actors (a type and an id) and assignees carry no foreign key: history
-- outlives whom it names.

CREATE TABLE agent (
    id                   blob   PRIMARY KEY,
    workspace_id         blob   NOT NULL REFERENCES workspace (id),
    owner_id             blob   NOT NULL REFERENCES users (id),
    -- No cascade: a runtime goes only after its agents.
    runtime_id           blob   NOT NULL REFERENCES agent_runtime (id),
    name                 text   NOT NULL,
    description          text   NOT NULL DEFAULT '',
    instructions         text   NOT NULL DEFAULT '',
    avatar_url           text,
    runtime_mode         text   NOT NULL DEFAULT 'local' CHECK (runtime_mode IN ('local', 'cloud')),
    runtime_config       text   NOT NULL DEFAULT '{}',
    custom_env           text   NOT NULL DEFAULT '{}',
    custom_args          text   NOT NULL DEFAULT '[]',
    mcp_config           text,
    visibility           text   NOT NULL DEFAULT 'private' CHECK (visibility IN ('workspace', 'private')),
    status               text   NOT NULL DEFAULT 'offline'
                         CHECK (status IN ('idle', 'working', 'blocked', 'error', 'offline')),
    max_concurrent_tasks integer NOT NULL DEFAULT 6,
    model                text   NOT NULL DEFAULT '',
    thinking_level       text   NOT NULL DEFAULT '',
    archived_at          integer,
    archived_by          blob,
    created_at           integer NOT NULL,
    updated_at           integer NOT NULL,
    UNIQUE (workspace_id, name)
);
-- The list, oldest first.
CREATE INDEX agent_by_workspace ON agent (workspace_id, created_at, id);
-- What a runtime's end takes with it.
CREATE INDEX agent_by_runtime ON agent (runtime_id);

CREATE TABLE skill (
    id           blob   PRIMARY KEY,
    workspace_id blob   NOT NULL REFERENCES workspace (id),
    name         text   NOT NULL,
    description  text   NOT NULL DEFAULT '',
    content      text   NOT NULL DEFAULT '',
    config       text   NOT NULL DEFAULT '{}',
    created_by   blob   REFERENCES users (id),
    created_at   integer NOT NULL,
    updated_at   integer NOT NULL,
    -- Also the list, by name.
    UNIQUE (workspace_id, name)
);

CREATE TABLE skill_file (
    id         blob   PRIMARY KEY,
    skill_id   blob   NOT NULL REFERENCES skill (id) ON DELETE CASCADE,
    path       text   NOT NULL,
    content    text   NOT NULL,
    created_at integer NOT NULL,
    updated_at integer NOT NULL,
    UNIQUE (skill_id, path)
);

CREATE TABLE agent_skill (
    agent_id   blob   NOT NULL REFERENCES agent (id) ON DELETE CASCADE,
    skill_id   blob   NOT NULL REFERENCES skill (id) ON DELETE CASCADE,
    created_at integer NOT NULL,
    PRIMARY KEY (agent_id, skill_id)
);
CREATE INDEX agent_skill_by_skill ON agent_skill (skill_id);

CREATE TABLE squad (
    id           blob   PRIMARY KEY,
    workspace_id blob   NOT NULL REFERENCES workspace (id),
    name         text   NOT NULL,
    description  text   NOT NULL DEFAULT '',
    instructions text   NOT NULL DEFAULT '',
    avatar_url   text,
    -- No cascade: an agent goes only after the squads it leads.
    leader_id    blob   NOT NULL REFERENCES agent (id),
    creator_id   blob   NOT NULL,
    archived_at  integer,
    archived_by  blob,
    created_at   integer NOT NULL,
    updated_at   integer NOT NULL
);
CREATE INDEX squad_by_workspace ON squad (workspace_id, created_at, id);
CREATE INDEX squad_by_leader ON squad (leader_id);

CREATE TABLE squad_member (
    id          blob   PRIMARY KEY,
    squad_id    blob   NOT NULL REFERENCES squad (id) ON DELETE CASCADE,
    member_type text   NOT NULL CHECK (member_type IN ('agent', 'member')),
    -- An agent, or a person.
    member_id   blob   NOT NULL,
    role        text   NOT NULL DEFAULT '',
    created_at  integer NOT NULL,
    UNIQUE (squad_id, member_type, member_id)
);
-- Somebody's squads.
CREATE INDEX squad_member_by_member ON squad_member (member_id, member_type);

CREATE TABLE project (
    id           blob   PRIMARY KEY,
    workspace_id blob   NOT NULL REFERENCES workspace (id),
    title        text   NOT NULL,
    description  text,
    icon         text,
    status       text   NOT NULL CHECK (status IN ('planned', 'in_progress', 'paused', 'completed', 'cancelled')),
    priority     text   NOT NULL CHECK (priority IN ('urgent', 'high', 'medium', 'low', 'none')),
    lead_type    text   CHECK (lead_type IN ('member', 'agent')),
    lead_id      blob,
    created_at   integer NOT NULL,
    updated_at   integer NOT NULL
);
CREATE INDEX project_by_workspace ON project (workspace_id, created_at, id);

CREATE TABLE project_resource (
    id            blob   PRIMARY KEY,
    project_id    blob   NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    workspace_id  blob   NOT NULL,
    resource_type text   NOT NULL CHECK (resource_type IN ('github_repo', 'local_directory')),
    resource_ref  text   NOT NULL,
    -- What there may be one of in a project: a repository's address, a directory's daemon.
    ref_key       text   NOT NULL,
    label         text,
    position      integer NOT NULL DEFAULT 0,
    created_at    integer NOT NULL,
    created_by    blob
);
CREATE UNIQUE INDEX project_resource_once ON project_resource (project_id, resource_type, ref_key);
CREATE INDEX project_resource_by_project ON project_resource (project_id, position, created_at, id);

-- The next number of each workspace's issues; numbers are never given twice.
CREATE TABLE issue_number (
    workspace_id blob   PRIMARY KEY,
    last         integer NOT NULL
);

CREATE TABLE issue (
    id                blob   PRIMARY KEY,
    workspace_id      blob   NOT NULL REFERENCES workspace (id),
    number            integer NOT NULL,
    title             text   NOT NULL,
    -- Lower case, single spaces, at most 200 characters: to sort by, and to find duplicates.
    title_key         text   NOT NULL,
    description       text,
    status            text   NOT NULL
                      CHECK (status IN ('backlog', 'todo', 'in_progress', 'in_review', 'done', 'blocked', 'cancelled')),
    priority          text   NOT NULL CHECK (priority IN ('urgent', 'high', 'medium', 'low', 'none')),
    -- 4 for urgent, 0 for none.
    priority_rank     integer NOT NULL,
    assignee_type     text   CHECK (assignee_type IN ('member', 'agent', 'squad')),
    assignee_id       blob,
    creator_type      text   NOT NULL CHECK (creator_type IN ('member', 'agent')),
    creator_id        blob   NOT NULL,
    parent_issue_id   blob   REFERENCES issue (id) ON DELETE SET NULL,
    project_id        blob   REFERENCES project (id),
    position          real NOT NULL,
    start_date        text,
    due_date          text,
    metadata          text   NOT NULL DEFAULT '{}',
    origin_type       text   CHECK (origin_type IN ('autopilot', 'quick_create')),
    origin_id         blob,
    first_executed_at integer,
    created_at        integer NOT NULL,
    updated_at        integer NOT NULL,
    UNIQUE (workspace_id, number),
    CHECK ((assignee_type IS NULL) = (assignee_id IS NULL))
);
-- One index for each order of the list, both ways round, and for the board's columns.
CREATE INDEX issue_by_position ON issue (workspace_id, position, created_at DESC, id);
CREATE INDEX issue_board ON issue (workspace_id, status, position, created_at DESC, id);
CREATE INDEX issue_by_creation ON issue (workspace_id, created_at, id);
CREATE INDEX issue_by_update ON issue (workspace_id, updated_at, id);
CREATE INDEX issue_by_title ON issue (workspace_id, title_key, created_at DESC, id);
CREATE INDEX issue_by_title_down ON issue (workspace_id, title_key DESC, created_at DESC, id);
CREATE INDEX issue_by_priority ON issue (workspace_id, priority_rank DESC, created_at DESC, id);
CREATE INDEX issue_by_priority_down ON issue (workspace_id, priority_rank, created_at DESC, id);
CREATE INDEX issue_by_start ON issue (workspace_id, (start_date IS NULL), start_date, created_at DESC, id);
CREATE INDEX issue_by_start_down ON issue (workspace_id, (start_date IS NULL), start_date DESC, created_at DESC, id);
CREATE INDEX issue_by_due ON issue (workspace_id, (due_date IS NULL), due_date, created_at DESC, id);
CREATE INDEX issue_by_due_down ON issue (workspace_id, (due_date IS NULL), due_date DESC, created_at DESC, id);
-- The filters.
CREATE INDEX issue_by_assignee ON issue (assignee_id, position, created_at DESC, id) WHERE assignee_id IS NOT NULL;
CREATE INDEX issue_by_creator ON issue (workspace_id, creator_id, position, created_at DESC, id);
CREATE INDEX issue_by_project ON issue (project_id, position, created_at DESC, id) WHERE project_id IS NOT NULL;
CREATE INDEX issue_by_parent ON issue (parent_issue_id) WHERE parent_issue_id IS NOT NULL;
CREATE INDEX issue_scheduled ON issue (workspace_id, position, created_at DESC, id)
    WHERE start_date IS NOT NULL OR due_date IS NOT NULL;
CREATE INDEX issue_by_origin ON issue (origin_id) WHERE origin_id IS NOT NULL;

-- How many issues there are, by status and project: totals of lists without counting rows. Written
-- by triggers, so that no path forgets it.
CREATE TABLE issue_tally (
    workspace_id blob   NOT NULL,
    -- The nil UUID for those without one.
    project_id   blob   NOT NULL,
    status       text   NOT NULL,
    issues       integer NOT NULL,
    PRIMARY KEY (workspace_id, project_id, status)
);

CREATE TRIGGER tally_new_issue AFTER INSERT ON issue BEGIN
    INSERT INTO issue_tally (workspace_id, project_id, status, issues)
    VALUES (NEW.workspace_id, coalesce(NEW.project_id, zeroblob(16)), NEW.status, 1)
    ON CONFLICT (workspace_id, project_id, status) DO UPDATE SET issues = issues + 1;
END;
CREATE TRIGGER tally_gone_issue AFTER DELETE ON issue BEGIN
    UPDATE issue_tally SET issues = issues - 1
    WHERE workspace_id = OLD.workspace_id AND project_id = coalesce(OLD.project_id, zeroblob(16))
      AND status = OLD.status;
END;
CREATE TRIGGER tally_moved_issue AFTER UPDATE OF status, project_id ON issue
WHEN OLD.status IS NOT NEW.status OR OLD.project_id IS NOT NEW.project_id BEGIN
    UPDATE issue_tally SET issues = issues - 1
    WHERE workspace_id = OLD.workspace_id AND project_id = coalesce(OLD.project_id, zeroblob(16))
      AND status = OLD.status;
    INSERT INTO issue_tally (workspace_id, project_id, status, issues)
    VALUES (NEW.workspace_id, coalesce(NEW.project_id, zeroblob(16)), NEW.status, 1)
    ON CONFLICT (workspace_id, project_id, status) DO UPDATE SET issues = issues + 1;
END;

-- An issue's metadata once more, to filter by.
CREATE TABLE issue_metadata (
    issue_id     blob   NOT NULL REFERENCES issue (id) ON DELETE CASCADE,
    workspace_id blob   NOT NULL,
    key          text   NOT NULL,
    -- As JSON; a long one as its hash.
    value        text   NOT NULL,
    PRIMARY KEY (issue_id, key)
);
CREATE INDEX issue_metadata_by_value ON issue_metadata (workspace_id, key, value);

CREATE TABLE comment (
    id               blob   PRIMARY KEY,
    workspace_id     blob   NOT NULL,
    issue_id         blob   NOT NULL REFERENCES issue (id) ON DELETE CASCADE,
    author_type      text   NOT NULL CHECK (author_type IN ('member', 'agent', 'system')),
    author_id        blob   NOT NULL,
    content          text   NOT NULL,
    type             text   NOT NULL CHECK (type IN ('comment', 'status_change', 'progress_update', 'system')),
    -- What it answers, and the first comment of the thread: itself, if it answers none. No cascade:
    -- SQLite gives up on a thousand answers to answers.
    parent_id        blob   REFERENCES comment (id),
    root_id          blob   NOT NULL,
    -- Of the first comment of a thread: its answers.
    reply_count      integer NOT NULL DEFAULT 0,
    last_activity_at integer NOT NULL,
    resolved_at      integer,
    resolved_by_type text,
    resolved_by_id   blob,
    source_task_id   blob,
    created_at       integer NOT NULL,
    updated_at       integer NOT NULL,
    CHECK ((resolved_at IS NULL) = (resolved_by_type IS NULL) AND (resolved_at IS NULL) = (resolved_by_id IS NULL))
);
CREATE INDEX comment_by_issue ON comment (issue_id, created_at, id);
CREATE INDEX comment_by_thread ON comment (root_id, created_at, id);
CREATE INDEX comment_by_parent ON comment (parent_id) WHERE parent_id IS NOT NULL;
-- Threads by their latest answer.
CREATE INDEX comment_roots ON comment (issue_id, last_activity_at, id) WHERE parent_id IS NULL;

-- What happened to an issue beside comments: changes of status and of assignee.
CREATE TABLE issue_activity (
    id           blob   PRIMARY KEY,
    workspace_id blob   NOT NULL,
    issue_id     blob   NOT NULL REFERENCES issue (id) ON DELETE CASCADE,
    actor_type   text   NOT NULL,
    actor_id     blob,
    action       text   NOT NULL,
    details      text   NOT NULL DEFAULT '{}',
    created_at   integer NOT NULL
);
CREATE INDEX issue_activity_by_issue ON issue_activity (issue_id, created_at, id);

CREATE TABLE chat_session (
    id           blob   PRIMARY KEY,
    workspace_id blob   NOT NULL REFERENCES workspace (id),
    agent_id     blob   NOT NULL REFERENCES agent (id),
    creator_id   blob   NOT NULL REFERENCES users (id),
    title        text   NOT NULL DEFAULT '',
    status       text   NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    -- Where the agent's own session can be taken up again.
    session_id   text,
    work_dir     text,
    runtime_id   blob,
    unread_since integer,
    created_at   integer NOT NULL,
    updated_at   integer NOT NULL
);
CREATE INDEX chat_session_by_creator ON chat_session (creator_id, workspace_id, updated_at);
CREATE INDEX chat_session_by_agent ON chat_session (agent_id);

CREATE TABLE chat_message (
    id              blob   PRIMARY KEY,
    chat_session_id blob   NOT NULL REFERENCES chat_session (id) ON DELETE CASCADE,
    role            text   NOT NULL CHECK (role IN ('user', 'assistant')),
    content         text   NOT NULL,
    task_id         blob,
    failure_reason  text,
    elapsed_ms      integer,
    created_at      integer NOT NULL
);
CREATE INDEX chat_message_by_session ON chat_message (chat_session_id, created_at, id);

CREATE TABLE attachment (
    id              blob   PRIMARY KEY,
    workspace_id    blob   NOT NULL REFERENCES workspace (id),
    issue_id        blob   REFERENCES issue (id) ON DELETE CASCADE,
    comment_id      blob   REFERENCES comment (id) ON DELETE CASCADE,
    chat_session_id blob   REFERENCES chat_session (id) ON DELETE CASCADE,
    chat_message_id blob   REFERENCES chat_message (id) ON DELETE SET NULL,
    uploader_type   text   NOT NULL CHECK (uploader_type IN ('member', 'agent')),
    uploader_id     blob   NOT NULL,
    filename        text   NOT NULL,
    content_type    text   NOT NULL,
    size_bytes      integer NOT NULL,
    -- Its bytes come in several transactions; until the last of them nobody sees it.
    complete        boolean NOT NULL DEFAULT 0,
    -- A picture of somebody; it belongs to nothing else.
    shown_as_avatar boolean NOT NULL DEFAULT 0,
    -- When the sweep takes it: some time after its upload began, or since it belongs to nothing. Null
    -- for what is there to stay.
    sweep_after     integer,
    created_at      integer NOT NULL,
    CHECK (complete OR sweep_after IS NOT NULL)
);
CREATE INDEX attachment_by_workspace ON attachment (workspace_id, created_at);
-- What the sweep takes next.
CREATE INDEX attachment_to_sweep ON attachment (sweep_after) WHERE sweep_after IS NOT NULL;
CREATE INDEX attachment_by_issue ON attachment (issue_id) WHERE issue_id IS NOT NULL;
CREATE INDEX attachment_by_comment ON attachment (comment_id) WHERE comment_id IS NOT NULL;
CREATE INDEX attachment_by_chat_session ON attachment (chat_session_id) WHERE chat_session_id IS NOT NULL;
CREATE INDEX attachment_by_chat_message ON attachment (chat_message_id) WHERE chat_message_id IS NOT NULL;

-- Its bytes, 1 MiB each but for the last.
CREATE TABLE attachment_chunk (
    attachment_id blob   NOT NULL REFERENCES attachment (id) ON DELETE CASCADE,
    place         integer NOT NULL,
    bytes         blob   NOT NULL,
    PRIMARY KEY (attachment_id, place)
);

CREATE TABLE autopilot (
    id                   blob   PRIMARY KEY,
    workspace_id         blob   NOT NULL REFERENCES workspace (id),
    title                text   NOT NULL,
    description          text,
    project_id           blob   REFERENCES project (id),
    assignee_type        text   NOT NULL CHECK (assignee_type IN ('agent', 'squad')),
    assignee_id          blob   NOT NULL,
    status               text   NOT NULL CHECK (status IN ('active', 'paused', 'archived')),
    execution_mode       text   NOT NULL CHECK (execution_mode IN ('create_issue', 'run_only')),
    issue_title_template text,
    created_by_type      text   NOT NULL CHECK (created_by_type IN ('member', 'agent')),
    created_by_id        blob   NOT NULL,
    last_run_at          integer,
    created_at           integer NOT NULL,
    updated_at           integer NOT NULL
);
CREATE INDEX autopilot_by_workspace ON autopilot (workspace_id, created_at, id);
CREATE INDEX autopilot_by_assignee ON autopilot (assignee_id);
CREATE INDEX autopilot_by_project ON autopilot (project_id) WHERE project_id IS NOT NULL;

CREATE TABLE autopilot_subscriber (
    autopilot_id blob   NOT NULL REFERENCES autopilot (id) ON DELETE CASCADE,
    user_type    text   NOT NULL CHECK (user_type = 'member'),
    user_id      blob   NOT NULL,
    created_at   integer NOT NULL,
    PRIMARY KEY (autopilot_id, user_type, user_id)
);

CREATE TABLE autopilot_trigger (
    id              blob   PRIMARY KEY,
    autopilot_id    blob   NOT NULL REFERENCES autopilot (id) ON DELETE CASCADE,
    kind            text   NOT NULL CHECK (kind IN ('schedule', 'webhook', 'api')),
    enabled         boolean NOT NULL DEFAULT 1,
    cron_expression text,
    timezone        text,
    next_run_at     integer,
    label           text,
    last_fired_at   integer,
    created_at      integer NOT NULL,
    updated_at      integer NOT NULL
);
CREATE INDEX autopilot_trigger_by_autopilot ON autopilot_trigger (autopilot_id, created_at, id);
-- What is due.
CREATE INDEX autopilot_trigger_due ON autopilot_trigger (next_run_at) WHERE enabled AND kind = 'schedule';

CREATE TABLE autopilot_run (
    id              blob   PRIMARY KEY,
    autopilot_id    blob   NOT NULL REFERENCES autopilot (id) ON DELETE CASCADE,
    trigger_id      blob,
    source          text   NOT NULL CHECK (source IN ('manual', 'schedule', 'webhook', 'api')),
    status          text   NOT NULL CHECK (status IN ('issue_created', 'running', 'completed', 'failed', 'skipped')),
    issue_id        blob,
    task_id         blob,
    squad_id        blob,
    triggered_at    integer NOT NULL,
    completed_at    integer,
    failure_reason  text,
    trigger_payload text,
    result          text,
    created_at      integer NOT NULL
);
CREATE INDEX autopilot_run_by_autopilot ON autopilot_run (autopilot_id, created_at DESC, id);
-- Runs that follow their issue.
CREATE INDEX autopilot_run_by_issue ON autopilot_run (issue_id) WHERE issue_id IS NOT NULL;

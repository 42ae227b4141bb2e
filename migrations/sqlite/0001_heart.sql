-- Times are microseconds since the Unix epoch. Ids are UUID v7, as 16 bytes. JSON is text.

-- Facts about this store itself: the event epoch and what it was made for.
CREATE TABLE hub_meta (
    key   text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE users (
    id                       blob   PRIMARY KEY,
    name                     text   NOT NULL,
    -- Lower-cased before it is stored.
    email                    text   NOT NULL UNIQUE,
    avatar_url               text,
    language                 text,
    timezone                 text,
    profile_description      text   NOT NULL DEFAULT '',
    onboarded_at             integer,
    onboarding_questionnaire text  NOT NULL DEFAULT '{}',
    starter_content_state    text,
    created_at               integer NOT NULL,
    updated_at               integer NOT NULL
);

CREATE TABLE workspace (
    id           blob   PRIMARY KEY,
    name         text   NOT NULL,
    slug         text   NOT NULL UNIQUE,
    description  text,
    context      text,
    settings     text  NOT NULL DEFAULT '{}',
    repos        text  NOT NULL DEFAULT '[]',
    issue_prefix text   NOT NULL,
    avatar_url   text,
    created_at   integer NOT NULL,
    updated_at   integer NOT NULL,
    deleted_at   integer
);

CREATE TABLE member (
    id           blob   PRIMARY KEY,
    workspace_id blob   NOT NULL REFERENCES workspace (id),
    user_id      blob   NOT NULL REFERENCES users (id),
    role         text   NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    created_at   integer NOT NULL,
    UNIQUE (workspace_id, user_id)
);
-- A person's workspaces.
CREATE INDEX member_by_user ON member (user_id, workspace_id);

CREATE TABLE personal_access_token (
    id           blob   PRIMARY KEY,
    user_id      blob   NOT NULL REFERENCES users (id),
    name         text   NOT NULL,
    -- SHA-256 of the whole token; the token itself is shown once and kept nowhere.
    token_hash   blob  NOT NULL UNIQUE,
    token_prefix text   NOT NULL,
    -- NULL: never.
    expires_at   integer,
    last_used_at integer,
    revoked_at   integer,
    created_at   integer NOT NULL
);
CREATE INDEX personal_access_token_by_user ON personal_access_token (user_id, created_at);

CREATE TABLE agent_runtime (
    id               blob   PRIMARY KEY,
    workspace_id     blob   NOT NULL REFERENCES workspace (id),
    -- NULL only in rows that predate ownership; the first registration adopts them.
    owner_id         blob   REFERENCES users (id),
    daemon_id        text   NOT NULL,
    -- Folded by the program, so that both databases fold alike.
    daemon_id_folded text   NOT NULL,
    legacy_daemon_id text,
    provider         text   NOT NULL,
    profile_id       blob,
    name             text   NOT NULL,
    runtime_mode     text   NOT NULL DEFAULT 'local' CHECK (runtime_mode IN ('local', 'cloud')),
    status           text   NOT NULL CHECK (status IN ('online', 'offline')),
    -- Why it is offline, and since when; NULL while online.
    offline_cause    text   CHECK (offline_cause IN ('stale', 'socket_lost', 'deregistered', 'revoked')),
    offline_at       integer,
    device_info      text   NOT NULL DEFAULT '',
    metadata         text  NOT NULL DEFAULT '{}',
    visibility       text   NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'public')),
    last_seen_at     integer,
    created_at       integer NOT NULL,
    updated_at       integer NOT NULL
);
-- A runtime's identity: built-in ones by provider, custom ones by profile, each within one owner.
CREATE UNIQUE INDEX agent_runtime_builtin ON agent_runtime (workspace_id, owner_id, daemon_id, provider)
    WHERE profile_id IS NULL;
CREATE UNIQUE INDEX agent_runtime_custom ON agent_runtime (workspace_id, owner_id, daemon_id, profile_id)
    WHERE profile_id IS NOT NULL;
-- The list, oldest first.
CREATE INDEX agent_runtime_by_workspace ON agent_runtime (workspace_id, created_at, id);
-- Adoption of ownerless rows, and later merges by former daemon ids.
CREATE INDEX agent_runtime_by_daemon ON agent_runtime (workspace_id, provider, daemon_id_folded);
-- The sweep.
CREATE INDEX agent_runtime_online ON agent_runtime (last_seen_at) WHERE status = 'online';

-- The sequence of each workspace. No foreign keys: counter and log outlive their workspace, and a
-- commit locks nothing but its counter here.
CREATE TABLE event_counter (
    workspace_id blob   PRIMARY KEY,
    seq          integer NOT NULL,
    -- Everything up to here is gone from the log.
    pruned_to    integer NOT NULL DEFAULT 0,
    -- Payload bytes in the log.
    log_bytes    integer NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE event_log (
    workspace_id blob   NOT NULL,
    seq          integer NOT NULL,
    id           blob   NOT NULL,
    kind         text   NOT NULL,
    actor_type   text   NOT NULL,
    actor_id     blob,
    payload      text   NOT NULL,
    created_at   integer NOT NULL,
    PRIMARY KEY (workspace_id, seq)
) WITHOUT ROWID;

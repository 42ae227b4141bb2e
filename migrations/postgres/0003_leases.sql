-- Who may do what, for so long. Times are microseconds since the Unix epoch.

-- A job that runs on one node at a time.
CREATE TABLE job_lease (
    name       text   PRIMARY KEY,
    -- A node.
    holder     text   NOT NULL,
    expires_at bigint NOT NULL
);

-- The nodes that use this database.
CREATE TABLE node_lease (
    -- A run of the program.
    node       text    PRIMARY KEY,
    -- Where it runs; two runs at one place follow each other.
    place      text    NOT NULL,
    has_redis  boolean NOT NULL,
    expires_at bigint  NOT NULL
);

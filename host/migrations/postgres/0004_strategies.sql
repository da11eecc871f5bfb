-- Which revisions of which version operators want to run: every host follows what stands here.

-- What is wanted of a version, as one document that is replaced as a whole; `epoch` rises by one with each change.
CREATE TABLE strategies (
    version text   PRIMARY KEY,
    epoch   bigint NOT NULL CHECK (epoch > 0),
    desired text   NOT NULL
);

-- The bytes of the components that the document of their version names.
CREATE TABLE components (
    version text  NOT NULL,
    digest  text  NOT NULL CHECK (length(digest) = 64),
    bytes   bytea NOT NULL,
    PRIMARY KEY (version, digest)
);

-- What was asked for, by whom, what became of it, and what that was decided by.
CREATE TABLE strategy_audit (
    id       bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at       bigint NOT NULL,
    version  text   NOT NULL,
    -- The rest of the line, as a document.
    line     text   NOT NULL
);

CREATE INDEX strategy_audit_by_version ON strategy_audit (version, id);

CREATE TRIGGER strategy_audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON strategy_audit
EXECUTE FUNCTION forbid('a line of the audit stays as it is');

-- What each host last said that it runs.
CREATE TABLE strategy_hosts (
    host    text   PRIMARY KEY,
    seen_at bigint NOT NULL,
    report  text   NOT NULL
);

-- Which revisions of which version operators want to run.

-- What is wanted of a version, as one document that is replaced as a whole; `epoch` rises by one with each change.
CREATE TABLE strategies (
    version TEXT    NOT NULL PRIMARY KEY,
    epoch   INTEGER NOT NULL CHECK (epoch > 0),
    desired TEXT    NOT NULL
) STRICT;

-- The bytes of the components that the document of their version names.
CREATE TABLE components (
    version TEXT NOT NULL,
    digest  TEXT NOT NULL CHECK (length(digest) = 64),
    bytes   BLOB NOT NULL,
    PRIMARY KEY (version, digest)
) STRICT;

-- What was asked for, by whom, what became of it, and what that was decided by.
CREATE TABLE strategy_audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    version TEXT    NOT NULL,
    -- The rest of the line, as a document.
    line    TEXT    NOT NULL
) STRICT;

CREATE INDEX strategy_audit_by_version ON strategy_audit (version, id);

CREATE TRIGGER strategy_audit_never_changes BEFORE UPDATE ON strategy_audit
BEGIN
    SELECT RAISE(ABORT, 'a line of the audit stays as it is');
END;

CREATE TRIGGER strategy_audit_stays BEFORE DELETE ON strategy_audit
BEGIN
    SELECT RAISE(ABORT, 'a line of the audit stays as it is');
END;

-- What each host last said that it runs.
CREATE TABLE strategy_hosts (
    host    TEXT    NOT NULL PRIMARY KEY,
    seen_at INTEGER NOT NULL,
    report  TEXT    NOT NULL
) STRICT;

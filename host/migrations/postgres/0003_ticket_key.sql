-- The key that signs request ids where operators give none: made by the first host, shared by all.
CREATE TABLE ticket_keys (
    only_one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_one),
    key      TEXT    NOT NULL CHECK (length(key) >= 32)
);

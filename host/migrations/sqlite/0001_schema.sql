-- The facts of a flash sale, and what no bug of the host may break.
-- Times are milliseconds since 1970 in UTC; money is in the shop's smallest unit.

CREATE TABLE products (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL CHECK (trim(name) <> ''),
    price       INTEGER NOT NULL CHECK (price > 0),
    description TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE time_sales (
    id             INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
    product_id     INTEGER NOT NULL REFERENCES products (id),
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    remaining      INTEGER NOT NULL CHECK (remaining BETWEEN 0 AND quantity),
    discount_price INTEGER NOT NULL CHECK (discount_price > 0),
    start_at       INTEGER NOT NULL,
    end_at         INTEGER NOT NULL,
    limit_per_user INTEGER          CHECK (limit_per_user > 0),
    created_at     INTEGER NOT NULL,
    -- The highest token of a lock under which an order was placed.
    fence          INTEGER NOT NULL DEFAULT 0 CHECK (fence >= 0),
    -- The order that `remaining` was last lowered by.
    last_order_id  INTEGER REFERENCES orders (id),
    CHECK (start_at < end_at)
) STRICT;

CREATE INDEX time_sales_by_end ON time_sales (end_at);

CREATE TABLE orders (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
    request_id         TEXT    NOT NULL UNIQUE,
    time_sale_id       INTEGER NOT NULL REFERENCES time_sales (id),
    user_id            INTEGER NOT NULL CHECK (user_id > 0),
    quantity           INTEGER NOT NULL CHECK (quantity > 0),
    discount_price     INTEGER NOT NULL,
    -- What the sale had left after this order.
    remaining          INTEGER NOT NULL CHECK (remaining >= 0),
    version            TEXT    NOT NULL,
    accepting_revision TEXT    NOT NULL,
    settling_revision  TEXT    NOT NULL,
    -- The token of the lock that it was placed under, where there was one.
    fence              INTEGER CHECK (fence >= 0),
    created_at         INTEGER NOT NULL
) STRICT;

-- The sum for the limit per user is read from the index alone.
CREATE INDEX orders_by_buyer ON orders (time_sale_id, user_id, quantity);

-- Requests that will never have an order. The sale need not exist: that may be the reason.
CREATE TABLE refusals (
    request_id   TEXT    NOT NULL PRIMARY KEY,
    time_sale_id INTEGER NOT NULL,
    reason       TEXT    NOT NULL CHECK (reason IN
        ('SOLD_OUT', 'NOT_OPEN', 'LIMIT_EXCEEDED', 'NOT_FOUND', 'REJECTED', 'STRATEGY_FAILED')),
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was first answered to a buyer's key: an order, or a place in the log (none until it is known).
CREATE TABLE idempotency_keys (
    key            BLOB    NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    request_id     TEXT    NOT NULL UNIQUE,
    time_sale_id   INTEGER NOT NULL,
    user_id        INTEGER NOT NULL,
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    version        TEXT    NOT NULL,
    revision       TEXT    NOT NULL,
    accepted_at    INTEGER NOT NULL,
    order_id       INTEGER REFERENCES orders (id),
    log_partition  INTEGER,
    log_offset     INTEGER,
    queue_position INTEGER,
    total_waiting  INTEGER,
    CHECK (order_id IS NULL OR log_offset IS NULL),
    CHECK ((log_partition IS NULL) = (log_offset IS NULL)
       AND (queue_position IS NULL) = (log_offset IS NULL)
       AND (total_waiting IS NULL) = (log_offset IS NULL))
) STRICT;

-- A sale starts whole.
CREATE TRIGGER time_sales_start_whole BEFORE INSERT ON time_sales
WHEN NEW.remaining <> NEW.quantity OR NEW.fence <> 0 OR NEW.last_order_id IS NOT NULL
  OR EXISTS (SELECT 1 FROM time_sales WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'a sale starts once, with its whole quantity');
END;

CREATE TRIGGER time_sales_stay BEFORE DELETE ON time_sales
BEGIN
    SELECT RAISE(ABORT, 'a sale is never deleted');
END;

-- A sale changes only by an order of its own that has not changed it before: stock and fence move, facts never.
CREATE TRIGGER time_sales_move_with_an_order BEFORE UPDATE ON time_sales
WHEN NEW.id <> OLD.id OR NEW.product_id <> OLD.product_id OR NEW.quantity <> OLD.quantity
  OR NEW.discount_price <> OLD.discount_price OR NEW.start_at <> OLD.start_at OR NEW.end_at <> OLD.end_at
  OR NEW.limit_per_user IS NOT OLD.limit_per_user OR NEW.created_at <> OLD.created_at
  OR NOT EXISTS (
    SELECT 1 FROM orders AS o
    WHERE o.id = NEW.last_order_id
      AND o.id > coalesce(OLD.last_order_id, 0)
      AND o.time_sale_id = OLD.id
      AND NEW.remaining = OLD.remaining - o.quantity
      AND NEW.fence = max(OLD.fence, coalesce(o.fence, 0)))
BEGIN
    SELECT RAISE(ABORT, 'a sale changes only by a new order');
END;

-- An order is true to its sale, the only answer to its request, and not behind a later lock.
CREATE TRIGGER orders_are_true BEFORE INSERT ON orders
BEGIN
    SELECT RAISE(ABORT, 'an order is never replaced')
    WHERE EXISTS (SELECT 1 FROM orders WHERE id = NEW.id OR request_id = NEW.request_id);
    SELECT RAISE(ABORT, 'the request is refused')
    WHERE EXISTS (SELECT 1 FROM refusals WHERE request_id = NEW.request_id);
    SELECT RAISE(ABORT, 'the order is not true to its sale')
    WHERE NOT EXISTS (
        SELECT 1 FROM time_sales AS s
        WHERE s.id = NEW.time_sale_id
          AND NEW.discount_price = s.discount_price
          AND NEW.remaining = s.remaining - NEW.quantity
          AND coalesce(NEW.fence, s.fence) >= s.fence);
END;

CREATE TRIGGER orders_lower_the_stock AFTER INSERT ON orders
BEGIN
    UPDATE time_sales
    SET remaining = remaining - NEW.quantity,
        fence = max(fence, coalesce(NEW.fence, 0)),
        last_order_id = NEW.id
    WHERE id = NEW.time_sale_id;
END;

CREATE TRIGGER orders_never_change BEFORE UPDATE ON orders
BEGIN
    SELECT RAISE(ABORT, 'an order never changes');
END;

CREATE TRIGGER orders_stay BEFORE DELETE ON orders
BEGIN
    SELECT RAISE(ABORT, 'an order is never deleted');
END;

-- A refusal is the only answer to its request, and the first stays.
CREATE TRIGGER refusals_are_true BEFORE INSERT ON refusals
BEGIN
    SELECT RAISE(ABORT, 'a refusal is never replaced')
    WHERE EXISTS (SELECT 1 FROM refusals WHERE request_id = NEW.request_id);
    SELECT RAISE(ABORT, 'the request has its order')
    WHERE EXISTS (SELECT 1 FROM orders WHERE request_id = NEW.request_id);
END;

CREATE TRIGGER refusals_never_change BEFORE UPDATE ON refusals
BEGIN
    SELECT RAISE(ABORT, 'a refusal never changes');
END;

CREATE TRIGGER refusals_stay BEFORE DELETE ON refusals
BEGIN
    SELECT RAISE(ABORT, 'a refusal is never deleted');
END;

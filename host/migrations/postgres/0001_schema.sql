-- The facts of a flash sale, and what no bug of the host may break.
-- Times are milliseconds since 1970 in UTC; money is in the shop's smallest unit.
--
-- A batch of orders is one INSERT: what guards it looks at the batch, not at each row.
-- Hence no foreign key from orders, which would look up the sale for every row: a sale is never deleted, and the trigger that lowers the stock finds it or refuses.

-- Functions remember this path, so that no temporary table can stand in for one of these.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE TABLE products (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name        text   NOT NULL CHECK (btrim(name) <> ''),
    price       bigint NOT NULL CHECK (price > 0),
    description text   NOT NULL,
    created_at  bigint NOT NULL
);

CREATE TABLE time_sales (
    id             bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY CHECK (id > 0),
    product_id     bigint NOT NULL REFERENCES products (id),
    quantity       bigint NOT NULL CHECK (quantity > 0),
    remaining      bigint NOT NULL CHECK (remaining BETWEEN 0 AND quantity),
    discount_price bigint NOT NULL CHECK (discount_price > 0),
    start_at       bigint NOT NULL,
    end_at         bigint NOT NULL,
    limit_per_user bigint          CHECK (limit_per_user > 0),
    created_at     bigint NOT NULL,
    -- The highest token of a lock under which an order was placed.
    fence          bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    CHECK (start_at < end_at)
-- Room for the versions of a hot row on its own page.
) WITH (fillfactor = 50);

CREATE INDEX time_sales_by_end ON time_sales (end_at);

CREATE TABLE orders (
    id                 bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY CHECK (id > 0),
    -- One order per request: `decisions` holds it.
    request_id         text   NOT NULL,
    time_sale_id       bigint NOT NULL,
    user_id            bigint NOT NULL CHECK (user_id > 0),
    quantity           bigint NOT NULL CHECK (quantity > 0),
    discount_price     bigint NOT NULL,
    -- What the sale had left after this order.
    remaining          bigint NOT NULL CHECK (remaining >= 0),
    version            text   NOT NULL,
    accepting_revision text   NOT NULL,
    settling_revision  text   NOT NULL,
    -- The token of the lock that it was placed under, where there was one.
    fence              bigint CHECK (fence >= 0),
    created_at         bigint NOT NULL
);

-- The sum for the limit per user is read from the index alone.
CREATE INDEX orders_by_buyer ON orders (time_sale_id, user_id) INCLUDE (quantity);

-- What became of a request: its order, or the reason why it will never have one.
-- One key for both is what makes them exclude each other, whoever writes at the same time.
-- The sale of a refusal need not exist: that may be the reason.
CREATE TABLE decisions (
    request_id   text   PRIMARY KEY,
    time_sale_id bigint NOT NULL,
    order_id     bigint,
    reason       text   CHECK (reason IN
        ('SOLD_OUT', 'NOT_OPEN', 'LIMIT_EXCEEDED', 'NOT_FOUND', 'REJECTED', 'STRATEGY_FAILED')),
    created_at   bigint NOT NULL,
    CHECK ((order_id IS NULL) <> (reason IS NULL))
);

-- What was first answered to a buyer's key: an order, or a place in the log (none until it is known).
CREATE TABLE idempotency_keys (
    key            bytea  PRIMARY KEY CHECK (length(key) = 32),
    request_id     text   NOT NULL UNIQUE,
    time_sale_id   bigint NOT NULL,
    user_id        bigint NOT NULL,
    quantity       bigint NOT NULL CHECK (quantity > 0),
    version        text   NOT NULL,
    revision       text   NOT NULL,
    accepted_at    bigint NOT NULL,
    order_id       bigint,
    log_partition  bigint,
    log_offset     bigint,
    queue_position bigint,
    total_waiting  bigint,
    CHECK (order_id IS NULL OR log_offset IS NULL),
    CHECK ((log_partition IS NULL) = (log_offset IS NULL)
       AND (queue_position IS NULL) = (log_offset IS NULL)
       AND (total_waiting IS NULL) = (log_offset IS NULL))
);

-- Says no, in the words of its trigger.
CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER time_sales_start_whole BEFORE INSERT ON time_sales FOR EACH ROW
WHEN (NEW.remaining <> NEW.quantity OR NEW.fence <> 0)
EXECUTE FUNCTION forbid('a sale starts with its whole quantity');

CREATE TRIGGER time_sales_stay BEFORE DELETE OR TRUNCATE ON time_sales
EXECUTE FUNCTION forbid('a sale is never deleted');

-- Stock and fence move only from within the trigger of new orders, which is the only one that writes here; facts never move.
CREATE TRIGGER time_sales_move_with_an_order BEFORE UPDATE ON time_sales FOR EACH ROW
WHEN (pg_trigger_depth() = 0 OR NEW.remaining >= OLD.remaining OR NEW.fence < OLD.fence
   OR (NEW.id, NEW.product_id, NEW.quantity, NEW.discount_price, NEW.start_at, NEW.end_at, NEW.limit_per_user, NEW.created_at)
      IS DISTINCT FROM
      (OLD.id, OLD.product_id, OLD.quantity, OLD.discount_price, OLD.start_at, OLD.end_at, OLD.limit_per_user, OLD.created_at))
EXECUTE FUNCTION forbid('a sale changes only by a new order');

CREATE TRIGGER orders_never_change BEFORE UPDATE ON orders
EXECUTE FUNCTION forbid('an order never changes');

CREATE TRIGGER orders_stay BEFORE DELETE OR TRUNCATE ON orders
EXECUTE FUNCTION forbid('an order is never deleted');

CREATE TRIGGER decisions_of_orders_come_with_them BEFORE INSERT ON decisions FOR EACH ROW
WHEN (NEW.order_id IS NOT NULL AND pg_trigger_depth() = 0)
EXECUTE FUNCTION forbid('a request gets its order by a new order');

CREATE TRIGGER decisions_never_change BEFORE UPDATE ON decisions
EXECUTE FUNCTION forbid('a decision never changes');

CREATE TRIGGER decisions_stay BEFORE DELETE OR TRUNCATE ON decisions
EXECUTE FUNCTION forbid('a decision is never deleted');

CREATE TRIGGER keys_keep_their_request BEFORE UPDATE OF request_id, time_sale_id, user_id, quantity, order_id ON idempotency_keys
EXECUTE FUNCTION forbid('what a key stands for never changes');

-- Lowers the stock by what a statement's orders take together, raises the fence, and decides their requests.
-- Refuses orders that are not true to their sale or behind a later lock; the checks of the table refuse overselling.
CREATE FUNCTION move_the_stock() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    asked bigint;
    moved bigint;
BEGIN
    SELECT count(DISTINCT time_sale_id) INTO asked FROM placed;

    UPDATE time_sales AS s
    SET remaining = s.remaining - p.quantity, fence = greatest(s.fence, p.highest_fence)
    FROM (SELECT time_sale_id, sum(quantity)::bigint AS quantity,
                 min(discount_price) AS lowest_price, max(discount_price) AS highest_price,
                 min(fence) AS lowest_fence, max(fence) AS highest_fence
          FROM placed GROUP BY time_sale_id) AS p
    WHERE s.id = p.time_sale_id
      AND s.discount_price = p.lowest_price AND s.discount_price = p.highest_price
      AND s.fence <= coalesce(p.lowest_fence, s.fence);
    GET DIAGNOSTICS moved = ROW_COUNT;

    -- Each order says what it left: the sale's stock now, and what the orders after it took.
    IF moved <> asked OR EXISTS (
        SELECT FROM (
            SELECT time_sale_id, remaining - sum(quantity) OVER later + quantity AS left_now
            FROM placed
            WINDOW later AS (PARTITION BY time_sale_id ORDER BY id DESC)) AS p
        JOIN time_sales AS s ON s.id = p.time_sale_id
        WHERE p.left_now <> s.remaining)
    THEN
        RAISE EXCEPTION 'an order is not true to its sale' USING ERRCODE = 'integrity_constraint_violation';
    END IF;

    INSERT INTO decisions (request_id, time_sale_id, order_id, created_at)
    SELECT request_id, time_sale_id, id, created_at FROM placed ORDER BY id;
    RETURN NULL;
END $$;

CREATE TRIGGER orders_move_the_stock AFTER INSERT ON orders
REFERENCING NEW TABLE AS placed FOR EACH STATEMENT
EXECUTE FUNCTION move_the_stock();

CREATE FUNCTION check_keys() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (
        SELECT FROM taken AS k
        WHERE k.order_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM orders AS o WHERE o.id = k.order_id AND o.request_id = k.request_id))
    THEN
        RAISE EXCEPTION 'a key stands for an order that is not its own' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER keys_are_true AFTER INSERT ON idempotency_keys
REFERENCING NEW TABLE AS taken FOR EACH STATEMENT
EXECUTE FUNCTION check_keys();

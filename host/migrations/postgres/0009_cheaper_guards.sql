-- An order holds its sale's row for less time: what guards it is asked where it can be broken, and nowhere else.
-- The server reads a check, and the condition of a trigger, from its stored form for every statement anew, which takes some 2 µs for each comparison; a trigger on columns that a statement does not name costs nothing.

SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- The facts of a sale are written once, so once is enough.
CREATE TRIGGER time_sales_start_sound BEFORE INSERT ON time_sales FOR EACH ROW
WHEN (NEW.id <= 0 OR NEW.quantity <= 0 OR NEW.discount_price <= 0 OR NEW.start_at >= NEW.end_at OR NEW.limit_per_user <= 0)
EXECUTE FUNCTION forbid('a sale starts sound');

CREATE TRIGGER time_sales_facts_never_change
BEFORE UPDATE OF id, product_id, quantity, discount_price, start_at, end_at, limit_per_user, created_at ON time_sales
EXECUTE FUNCTION forbid('a sale changes only by a new order');

-- Stock and fence move only from within the trigger of new orders, which is the only one that writes here, as `move_the_stock` moves them: the stock down, since an order has pieces, and the fence never.
CREATE OR REPLACE TRIGGER time_sales_move_with_an_order BEFORE UPDATE ON time_sales
WHEN (pg_trigger_depth() = 0)
EXECUTE FUNCTION forbid('a sale changes only by a new order');

-- What is left is that the stock lies between 0 and the whole: a fence starts at 0 and never falls.
ALTER TABLE time_sales
    DROP CONSTRAINT time_sales_id_check,
    DROP CONSTRAINT time_sales_quantity_check,
    DROP CONSTRAINT time_sales_discount_price_check,
    DROP CONSTRAINT time_sales_limit_per_user_check,
    DROP CONSTRAINT time_sales_check1,
    DROP CONSTRAINT time_sales_fence_check;

-- An order's id comes from a sequence that begins at 1; what it left is what its sale has left, and its fence is not below that of its sale: `move_the_stock` sees to both.
ALTER TABLE orders
    DROP CONSTRAINT orders_id_check,
    DROP CONSTRAINT orders_remaining_check,
    DROP CONSTRAINT orders_fence_check;

-- One comparison in the place of six; what is there has passed those.
ALTER TABLE decisions
    DROP CONSTRAINT decisions_reason_check,
    ADD CONSTRAINT decisions_reason_check CHECK
        (reason ~ '^(SOLD_OUT|NOT_OPEN|LIMIT_EXCEEDED|NOT_FOUND|REJECTED|STRATEGY_FAILED)$') NOT VALID;

-- As before (0005): keys and limits are asked only where there are some, and a placed order is answered without a query.
CREATE OR REPLACE FUNCTION purchase_one(
    asked_id text, asked_sale bigint, asked_user bigint, asked_quantity bigint, asked_at bigint,
    asked_version text, asked_revision text, asked_key bytea,
    settling text, under_fence bigint, refusal_is_final boolean, placed_at bigint
) RETURNS TABLE (
    verdict text, reason text,
    id bigint, request_id text, time_sale_id bigint, product_id bigint, user_id bigint, quantity bigint,
    discount_price bigint, remaining bigint, version text, accepting_revision text, settling_revision text, created_at bigint
) LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
AS $$
#variable_conflict use_column
DECLARE
    sale   time_sales;
    taken  boolean;
    bought bigint;
BEGIN
    SELECT s.* INTO sale FROM time_sales AS s WHERE s.id = asked_sale FOR NO KEY UPDATE;

    -- Statements of their own from here on: they see what was committed until the row was had.
    IF asked_key IS NOT NULL THEN
        taken := EXISTS (SELECT FROM idempotency_keys AS k WHERE k.key = asked_key);
    END IF;
    IF sale.limit_per_user IS NOT NULL THEN
        bought := (SELECT coalesce(sum(o.quantity), 0) FROM orders AS o WHERE o.time_sale_id = asked_sale AND o.user_id = asked_user);
    END IF;
    verdict := CASE
        WHEN EXISTS (SELECT FROM decisions AS d WHERE d.request_id = asked_id) THEN 'DECIDED'
        WHEN under_fence < sale.fence THEN 'LOCK_LOST'
        WHEN taken THEN 'TAKEN'
        WHEN sale.id IS NULL THEN 'NOT_FOUND'
        WHEN asked_at < sale.start_at OR asked_at >= sale.end_at THEN 'NOT_OPEN'
        WHEN asked_quantity > sale.remaining THEN 'SOLD_OUT'
        WHEN bought + asked_quantity > sale.limit_per_user THEN 'LIMIT_EXCEEDED'
    END;

    IF verdict IS NULL THEN
        INSERT INTO orders AS o (request_id, time_sale_id, user_id, quantity, discount_price, remaining,
            version, accepting_revision, settling_revision, fence, created_at)
        VALUES (asked_id, asked_sale, asked_user, asked_quantity, sale.discount_price, sale.remaining - asked_quantity,
            asked_version, asked_revision, settling, under_fence, placed_at)
        RETURNING o.id INTO id;
        IF asked_key IS NOT NULL AND NOT refusal_is_final THEN
            INSERT INTO idempotency_keys (key, request_id, time_sale_id, user_id, quantity, version, revision, accepted_at, order_id)
            VALUES (asked_key, asked_id, asked_sale, asked_user, asked_quantity, asked_version, asked_revision, asked_at, id);
        END IF;
        request_id := asked_id;
        time_sale_id := asked_sale;
        product_id := sale.product_id;
        user_id := asked_user;
        quantity := asked_quantity;
        discount_price := sale.discount_price;
        remaining := sale.remaining - asked_quantity;
        version := asked_version;
        accepting_revision := asked_revision;
        settling_revision := settling;
        created_at := placed_at;
        RETURN NEXT;
        RETURN;
    END IF;

    IF refusal_is_final AND verdict <> 'DECIDED' THEN
        INSERT INTO decisions (request_id, time_sale_id, reason, created_at)
        VALUES (asked_id, asked_sale, verdict, placed_at)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN QUERY
    SELECT verdict, d.reason, o.id, o.request_id, o.time_sale_id, s.product_id, o.user_id, o.quantity,
        o.discount_price, o.remaining, o.version, o.accepting_revision, o.settling_revision, o.created_at
    FROM (VALUES (asked_id)) AS a (request_id)
    LEFT JOIN decisions AS d ON d.request_id = a.request_id
    LEFT JOIN orders AS o ON o.id = d.order_id
    LEFT JOIN time_sales AS s ON s.id = o.time_sale_id;
END $$;

-- As before (0008), with the orders counted and the only one read in one query.
CREATE OR REPLACE FUNCTION move_the_stock() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    one     record;
    asked   bigint;
    moved   bigint;
    is_true boolean;
BEGIN
    SELECT o.*, (SELECT count(*) FROM placed) AS asked INTO one FROM placed AS o LIMIT 1;
    IF one.asked = 1 THEN
        UPDATE time_sales AS s
        SET remaining = s.remaining - one.quantity, fence = greatest(s.fence, one.fence)
        WHERE s.id = one.time_sale_id
          AND s.discount_price = one.discount_price
          AND s.fence <= coalesce(one.fence, s.fence)
        RETURNING s.remaining = one.remaining INTO is_true;
        IF is_true IS NOT TRUE THEN
            RAISE EXCEPTION 'an order is not true to its sale' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        INSERT INTO decisions (request_id, time_sale_id, order_id, created_at)
        VALUES (one.request_id, one.time_sale_id, one.id, one.created_at);
        RETURN NULL;
    END IF;

    -- Each order says what it left: what the one before it left less its own pieces, and the last of them what its sale has now.
    WITH chain AS (
        SELECT o.*, lag(o.remaining) OVER (PARTITION BY o.time_sale_id ORDER BY o.id) AS left_before FROM placed AS o
    ), sums AS (
        SELECT time_sale_id, sum(quantity)::bigint AS quantity, min(remaining) AS remaining,
            bool_and(left_before IS NULL OR left_before = remaining + quantity) AS chained,
            min(discount_price) AS lowest_price, max(discount_price) AS highest_price,
            min(fence) AS lowest_fence, max(fence) AS highest_fence
        FROM chain GROUP BY time_sale_id
    ), changed AS (
        UPDATE time_sales AS s
        SET remaining = s.remaining - p.quantity, fence = greatest(s.fence, p.highest_fence)
        FROM sums AS p
        WHERE s.id = p.time_sale_id
          AND s.discount_price = p.lowest_price AND s.discount_price = p.highest_price
          AND s.fence <= coalesce(p.lowest_fence, s.fence)
        RETURNING p.chained AND s.remaining = p.remaining AS is_true
    )
    SELECT (SELECT count(*) FROM sums), (SELECT count(*) FROM changed AS c WHERE c.is_true) INTO asked, moved;
    IF moved <> asked THEN
        RAISE EXCEPTION 'an order is not true to its sale' USING ERRCODE = 'integrity_constraint_violation';
    END IF;

    INSERT INTO decisions (request_id, time_sale_id, order_id, created_at)
    SELECT request_id, time_sale_id, id, created_at FROM placed ORDER BY id;
    RETURN NULL;
END $$;

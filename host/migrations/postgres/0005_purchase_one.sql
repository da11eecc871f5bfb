-- One purchase by itself: what `purchase` does for a batch, without what only a batch needs, which is two fifths of its price.

SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Judges one request and places its order; the answer is the row that `purchase` has for it, in the same words.
CREATE FUNCTION purchase_one(
    asked_id text, asked_sale bigint, asked_user bigint, asked_quantity bigint, asked_at bigint,
    asked_version text, asked_revision text, asked_key bytea,
    settling text, under_fence bigint, refusal_is_final boolean, placed_at bigint
) RETURNS TABLE (
    verdict text, reason text,
    id bigint, request_id text, time_sale_id bigint, product_id bigint, user_id bigint, quantity bigint,
    discount_price bigint, remaining bigint, version text, accepting_revision text, settling_revision text, created_at bigint
) LANGUAGE plpgsql
SET search_path FROM CURRENT
-- As in `purchase`, and for what is done in it by triggers: every row is looked up by its key, however small its table was when the plan was made.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
AS $$
#variable_conflict use_column
DECLARE
    sale     time_sales;
    order_id bigint;
BEGIN
    SELECT s.* INTO sale FROM time_sales AS s WHERE s.id = asked_sale FOR NO KEY UPDATE;

    -- A statement of its own: it sees what was committed until the row was had.
    verdict := CASE
        WHEN EXISTS (SELECT FROM decisions AS d WHERE d.request_id = asked_id) THEN 'DECIDED'
        WHEN under_fence < sale.fence THEN 'LOCK_LOST'
        WHEN asked_key IS NOT NULL
            AND EXISTS (SELECT FROM idempotency_keys AS k WHERE k.key = asked_key) THEN 'TAKEN'
        WHEN sale.id IS NULL THEN 'NOT_FOUND'
        WHEN asked_at < sale.start_at OR asked_at >= sale.end_at THEN 'NOT_OPEN'
        WHEN asked_quantity > sale.remaining THEN 'SOLD_OUT'
        WHEN sale.limit_per_user IS NOT NULL AND sale.limit_per_user < asked_quantity +
            (SELECT coalesce(sum(o.quantity), 0) FROM orders AS o
             WHERE o.time_sale_id = asked_sale AND o.user_id = asked_user) THEN 'LIMIT_EXCEEDED'
    END;

    IF verdict IS NULL THEN
        INSERT INTO orders AS o (request_id, time_sale_id, user_id, quantity, discount_price, remaining,
            version, accepting_revision, settling_revision, fence, created_at)
        VALUES (asked_id, asked_sale, asked_user, asked_quantity, sale.discount_price, sale.remaining - asked_quantity,
            asked_version, asked_revision, settling, under_fence, placed_at)
        RETURNING o.id INTO order_id;
        IF asked_key IS NOT NULL AND NOT refusal_is_final THEN
            INSERT INTO idempotency_keys (key, request_id, time_sale_id, user_id, quantity, version, revision, accepted_at, order_id)
            VALUES (asked_key, asked_id, asked_sale, asked_user, asked_quantity, asked_version, asked_revision, asked_at, order_id);
        END IF;
    ELSIF refusal_is_final AND verdict <> 'DECIDED' THEN
        INSERT INTO decisions (request_id, time_sale_id, reason, created_at)
        VALUES (asked_id, asked_sale, verdict, placed_at)
        ON CONFLICT DO NOTHING;
    END IF;

    IF verdict IS NULL THEN
        RETURN QUERY VALUES (NULL::text, NULL::text, order_id, asked_id, asked_sale, sale.product_id, asked_user, asked_quantity,
            sale.discount_price, sale.remaining - asked_quantity, asked_version, asked_revision, settling, placed_at);
    ELSE
        RETURN QUERY
        SELECT verdict, d.reason, o.id, o.request_id, o.time_sale_id, s.product_id, o.user_id, o.quantity,
            o.discount_price, o.remaining, o.version, o.accepting_revision, o.settling_revision, o.created_at
        FROM (VALUES (asked_id)) AS a (request_id)
        LEFT JOIN decisions AS d ON d.request_id = a.request_id
        LEFT JOIN orders AS o ON o.id = d.order_id
        LEFT JOIN time_sales AS s ON s.id = o.time_sale_id;
    END IF;
END $$;

-- As before, and one order by itself is judged without a join.
CREATE OR REPLACE FUNCTION move_the_stock() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    asked   bigint;
    moved   bigint;
    one     orders;
    is_true boolean;
BEGIN
    SELECT count(*) INTO asked FROM placed;
    IF asked = 1 THEN
        SELECT * INTO one FROM placed;
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

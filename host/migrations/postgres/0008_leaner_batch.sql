-- A batch costs less under the row that it holds: what few batches need is asked only for them, and the stock moves and is checked in one statement.

SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- As before (0007): what it is asked, what it answers and what it does are the same.
-- Requests for one sale are judged in the order given, sale after sale.
CREATE OR REPLACE FUNCTION purchase_batch(
    request_ids text[], sale_ids bigint[], user_ids bigint[], quantities bigint[], accepted_ats bigint[],
    versions text[], revisions text[], key_ids bytea[],
    settling text, under_fence bigint, refusals_are_final boolean, placed_at bigint,
    OUT verdicts text[], OUT ids bigint[], OUT products bigint[], OUT prices bigint[], OUT lefts bigint[]
) LANGUAGE plpgsql
SET search_path FROM CURRENT
-- Plans are made once and live as long as the connection.
-- One made while a table was small must not read the whole of it when it is large: every row is looked up by its key.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
AS $$
DECLARE
    asked    record;
    outcome  text;
    with_key boolean := cardinality(array_remove(key_ids, NULL)) > 0;
    -- The sale whose requests are being judged, and what this batch has left of it.
    sale     bigint;
    stock    bigint;
    -- The number of each request's buyer, where the sale has a limit, and what each of them has by now.
    buyers   bigint[] := '{}';
    bought   bigint[] := '{}';
    -- The number of each request's key, where there are keys, and whether this batch took it.
    keys     bigint[] := '{}';
    taken    boolean[] := '{}';
BEGIN
    verdicts := array_fill(NULL::text, ARRAY[cardinality(request_ids)]);
    products := array_fill(NULL::bigint, ARRAY[cardinality(request_ids)]);
    prices := products;
    lefts := products;

    -- Always in the order of their ids, so that two batches never wait for each other.
    FOR asked IN SELECT DISTINCT unnest(sale_ids) AS sale_id ORDER BY sale_id LOOP
        PERFORM FROM time_sales AS s WHERE s.id = asked.sale_id FOR NO KEY UPDATE;
    END LOOP;

    -- Statements of their own from here on: they see what was committed until the rows were had.
    IF EXISTS (SELECT FROM time_sales AS s WHERE s.id = ANY (sale_ids) AND s.limit_per_user IS NOT NULL) THEN
        FOR asked IN
            SELECT a.place, dense_rank() OVER (ORDER BY a.sale_id, a.user_id) AS buyer,
                (SELECT coalesce(sum(o.quantity), 0)::bigint FROM orders AS o
                 WHERE o.time_sale_id = a.sale_id AND o.user_id = a.user_id) AS bought
            FROM unnest(sale_ids, user_ids) WITH ORDINALITY AS a (sale_id, user_id, place)
            JOIN time_sales AS s ON s.id = a.sale_id
            WHERE s.limit_per_user IS NOT NULL
        LOOP
            buyers[asked.place] := asked.buyer;
            bought[asked.buyer] := asked.bought;
        END LOOP;
    END IF;
    IF with_key THEN
        SELECT array_agg(k.number ORDER BY k.place) INTO keys
        FROM (SELECT a.place, dense_rank() OVER (ORDER BY a.key) AS number
              FROM unnest(key_ids) WITH ORDINALITY AS a (key, place)) AS k;
    END IF;

    FOR asked IN
        SELECT a.place, a.quantity, a.accepted_at, a.key, s.id AS sale_id, s.product_id, s.remaining, s.discount_price,
            s.start_at, s.end_at, s.limit_per_user, s.fence,
            (SELECT true FROM decisions AS d WHERE d.request_id = a.request_id) AS decided,
            (SELECT true FROM idempotency_keys AS k WHERE k.key = a.key) AS taken
        FROM unnest(request_ids, sale_ids, quantities, accepted_ats, key_ids) WITH ORDINALITY
            AS a (request_id, sale_id, quantity, accepted_at, key, place)
        LEFT JOIN time_sales AS s ON s.id = a.sale_id
        ORDER BY a.sale_id, a.place
    LOOP
        IF asked.sale_id IS DISTINCT FROM sale THEN
            sale := asked.sale_id;
            stock := asked.remaining;
        END IF;
        outcome := CASE
            WHEN asked.decided THEN 'DECIDED'
            WHEN under_fence < asked.fence THEN 'LOCK_LOST'
            WHEN asked.taken OR (asked.key IS NOT NULL AND taken[keys[asked.place]]) THEN 'TAKEN'
            WHEN asked.sale_id IS NULL THEN 'NOT_FOUND'
            WHEN asked.accepted_at < asked.start_at OR asked.accepted_at >= asked.end_at THEN 'NOT_OPEN'
            WHEN asked.quantity > stock THEN 'SOLD_OUT'
            WHEN bought[buyers[asked.place]] + asked.quantity > asked.limit_per_user THEN 'LIMIT_EXCEEDED'
        END;
        IF outcome IS NOT NULL THEN
            verdicts[asked.place] := outcome;
            CONTINUE;
        END IF;
        stock := stock - asked.quantity;
        lefts[asked.place] := stock;
        products[asked.place] := asked.product_id;
        prices[asked.place] := asked.discount_price;
        IF asked.limit_per_user IS NOT NULL THEN
            bought[buyers[asked.place]] := bought[buyers[asked.place]] + asked.quantity;
        END IF;
        IF asked.key IS NOT NULL THEN
            taken[keys[asked.place]] := true;
        END IF;
    END LOOP;

    WITH placed AS (
        INSERT INTO orders AS o (request_id, time_sale_id, user_id, quantity, discount_price, remaining,
            version, accepting_revision, settling_revision, fence, created_at)
        SELECT a.request_id, a.sale_id, a.user_id, a.quantity, a.price, a.remaining,
            a.version, a.revision, settling, under_fence, placed_at
        FROM unnest(request_ids, sale_ids, user_ids, quantities, prices, versions, revisions, lefts) WITH ORDINALITY
            AS a (request_id, sale_id, user_id, quantity, price, version, revision, remaining, place)
        WHERE a.remaining IS NOT NULL
        ORDER BY a.place
        RETURNING o.id
    )
    SELECT coalesce(array_agg(p.id ORDER BY p.id), '{}') INTO ids FROM placed AS p;

    -- Keys and refusals go in in the order of their keys, so that two batches never wait for each other.
    IF refusals_are_final THEN
        INSERT INTO decisions (request_id, time_sale_id, reason, created_at)
        SELECT a.request_id, a.sale_id, a.verdict, placed_at
        FROM unnest(request_ids, sale_ids, verdicts) AS a (request_id, sale_id, verdict)
        WHERE a.verdict IS NOT NULL AND a.verdict <> 'DECIDED'
        ORDER BY a.request_id
        ON CONFLICT DO NOTHING;
    ELSIF with_key THEN
        INSERT INTO idempotency_keys (key, request_id, time_sale_id, user_id, quantity, version, revision, accepted_at, order_id)
        SELECT a.key, a.request_id, a.sale_id, a.user_id, a.quantity, a.version, a.revision, a.accepted_at, ids[a.number]
        FROM (SELECT u.*, count(u.remaining) OVER (ORDER BY u.place) AS number
              FROM unnest(request_ids, sale_ids, user_ids, quantities, accepted_ats, versions, revisions, key_ids, lefts) WITH ORDINALITY
                  AS u (request_id, sale_id, user_id, quantity, accepted_at, version, revision, key, remaining, place)) AS a
        WHERE a.key IS NOT NULL AND a.remaining IS NOT NULL
        ORDER BY a.key;
    END IF;
END $$;

-- As before (0005), with a batch moved and checked in one statement.
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

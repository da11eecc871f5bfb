-- A batch of purchases answers in one row, and only what whoever asked cannot know.

SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Judges requests, each id once, in the order given, and places the orders of those that pass.
-- It is asked as `purchase` is (0002), which hosts of an earlier build go on to use, and does the same.
--
-- In the answer `verdicts` has an element for each request, in their order:
--   none       the order was placed just now,
--   DECIDED    nothing was done: the order, or the reason, was there before, and is to be looked up,
--   TAKEN      its idempotency key belongs to another request,
--   LOCK_LOST  a token above `under_fence` has written to the sale,
--   another    the code of a rejection.
-- `products`, `prices` and `lefts` have one for each request too, none where no order was placed: what it is for, for how much, and what the sale has left after it.
-- `ids` has one for each order that was placed, in the order of their requests.
CREATE FUNCTION purchase_batch(
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
    asked   record;
    outcome text;
    -- Which of those that passed it is.
    numbers bigint[];
    passed  bigint := 0;
    -- What this batch has left of each sale and given to each buyer, by their numbers below; and the keys it took.
    stock   bigint[];
    bought  bigint[];
    taken   boolean[];
BEGIN
    verdicts := array_fill(NULL::text, ARRAY[cardinality(request_ids)]);
    products := array_fill(NULL::bigint, ARRAY[cardinality(request_ids)]);
    prices := products;
    lefts := products;
    numbers := products;
    stock := products;
    bought := products;
    taken := array_fill(false, ARRAY[cardinality(request_ids)]);

    -- Always in the order of their ids, so that two batches never wait for each other.
    FOR asked IN SELECT DISTINCT unnest(sale_ids) AS sale_id ORDER BY sale_id LOOP
        PERFORM FROM time_sales AS s WHERE s.id = asked.sale_id FOR NO KEY UPDATE;
    END LOOP;

    -- A statement of its own: it sees what was committed until the rows were had.
    -- Buyers are told apart where their sale has a limit.
    FOR asked IN
        SELECT a.place, a.quantity, a.accepted_at, a.key, s.id AS sale_id, s.product_id, s.remaining, s.discount_price,
            s.start_at, s.end_at, s.limit_per_user, s.fence,
            dense_rank() OVER (ORDER BY a.sale_id) AS sale_number,
            dense_rank() OVER (ORDER BY a.sale_id, CASE WHEN s.limit_per_user IS NOT NULL THEN a.user_id END) AS buyer_number,
            dense_rank() OVER (ORDER BY a.key) AS key_number,
            (SELECT true FROM decisions AS d WHERE d.request_id = a.request_id) AS decided,
            (SELECT true FROM idempotency_keys AS k WHERE k.key = a.key) AS taken,
            CASE WHEN s.limit_per_user IS NOT NULL THEN
                (SELECT coalesce(sum(o.quantity), 0)::bigint FROM orders AS o
                 WHERE o.time_sale_id = a.sale_id AND o.user_id = a.user_id) END AS bought
        FROM unnest(request_ids, sale_ids, user_ids, quantities, accepted_ats, key_ids) WITH ORDINALITY
            AS a (request_id, sale_id, user_id, quantity, accepted_at, key, place)
        LEFT JOIN time_sales AS s ON s.id = a.sale_id
        ORDER BY a.place
    LOOP
        stock[asked.sale_number] := coalesce(stock[asked.sale_number], asked.remaining);
        bought[asked.buyer_number] := coalesce(bought[asked.buyer_number], asked.bought);
        outcome := CASE
            WHEN asked.decided THEN 'DECIDED'
            WHEN under_fence < asked.fence THEN 'LOCK_LOST'
            WHEN asked.taken OR (asked.key IS NOT NULL AND taken[asked.key_number]) THEN 'TAKEN'
            WHEN asked.sale_id IS NULL THEN 'NOT_FOUND'
            WHEN asked.accepted_at < asked.start_at OR asked.accepted_at >= asked.end_at THEN 'NOT_OPEN'
            WHEN asked.quantity > stock[asked.sale_number] THEN 'SOLD_OUT'
            WHEN bought[asked.buyer_number] + asked.quantity > asked.limit_per_user THEN 'LIMIT_EXCEEDED'
        END;
        IF outcome IS NULL THEN
            stock[asked.sale_number] := stock[asked.sale_number] - asked.quantity;
            bought[asked.buyer_number] := bought[asked.buyer_number] + asked.quantity;
            taken[asked.key_number] := true;
            lefts[asked.place] := stock[asked.sale_number];
            products[asked.place] := asked.product_id;
            prices[asked.place] := asked.discount_price;
            passed := passed + 1;
            numbers[asked.place] := passed;
        ELSE
            verdicts[asked.place] := outcome;
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
    ELSE
        INSERT INTO idempotency_keys (key, request_id, time_sale_id, user_id, quantity, version, revision, accepted_at, order_id)
        SELECT a.key, a.request_id, a.sale_id, a.user_id, a.quantity, a.version, a.revision, a.accepted_at, ids[a.number]
        FROM unnest(request_ids, sale_ids, user_ids, quantities, accepted_ats, versions, revisions, key_ids, numbers)
            AS a (request_id, sale_id, user_id, quantity, accepted_at, version, revision, key, number)
        WHERE a.key IS NOT NULL AND a.number IS NOT NULL
        ORDER BY a.key;
    END IF;
END $$;

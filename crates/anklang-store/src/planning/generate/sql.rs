//! The statements of a generation. `generation_diff` has a row for each contact that is wanted or there,
//! and says what becomes of it.

/// Chunks join, group and sort some ten thousand rows. The planner cannot know how many come out of a
/// step, expects few, and would compare each row with each. Without that costs look high enough to
/// compile the statement, which takes longer than it does.
pub(super) const SETTINGS: &str = "SELECT set_config('work_mem', '64MB', true),
        set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true)";

/// For the statements that go by keys.
pub(super) const USUAL: &str = "SELECT set_config('enable_nestloop', 'on', true)";

/// `change` is as in `Change`; `write` says whether an unchanged row is written all the same, because
/// what nobody sees of it changed. `id` is null for contacts that are not there.
pub(super) const TABLE: &str = "CREATE TEMPORARY TABLE generation_diff (
        change text NOT NULL, reason text NOT NULL, write boolean NOT NULL, id uuid,
        entry_id uuid, customer_id uuid NOT NULL, plan_date date NOT NULL,
        contact_date date NOT NULL, under text, contact_at timestamptz, window_from timestamptz,
        window_to timestamptz, delivery_date date, delivery_moved text, responsible text,
        priority integer, skills text[], holds_day boolean, customer_group text
    ) ON COMMIT DROP";

/// SQL of the moment at which the clock of the plan day `d` shows a time.
macro_rules! at {
    ($time:literal) => {
        concat!(
            "CASE WHEN (d.date + ",
            $time,
            " - make_interval(secs => d.ahead)) AT TIME ZONE 'UTC'
                      >= d.jump
                  THEN greatest(d.jump, (d.date + ",
            $time,
            " - make_interval(secs => d.later)) AT TIME ZONE 'UTC')
                  ELSE (d.date + ",
            $time,
            " - make_interval(secs => d.ahead)) AT TIME ZONE 'UTC' END"
        )
    };
}

/// True for a contact `k` that people are or were at.
macro_rules! kept {
    () => {
        "(k.state <> 'open' OR k.attempts > 0 OR k.marks <> '{}')"
    };
}

/// Why it is kept.
macro_rules! why_kept {
    () => {
        "CASE WHEN 'moved' = ANY(k.marks) THEN 'moved' WHEN 'pinned' = ANY(k.marks) THEN 'pinned'
              ELSE 'worked_on' END"
    };
}

/// The statement that fills `generation_diff`; its steps, in this order:
///
/// - `day`: the plans' dates; `entry`: the entries of the chunk;
/// - `slot`: each entry on each date within its validity, with its customer's inactive periods;
/// - `near`, `existing`: the contacts of these customers in the range, and those elsewhere that belong to
///   a slot; `kept`: the slots of those that stay as they are;
/// - `stay`: days that plans have for good, as their contact stays, or is not in the scope;
/// - `marked`, `contender`, `winner`: of the plans that do not permit duplicates, which gets a customer's day;
/// - `wanted`: slots with the verdict on them: why there is no contact, or empty;
/// - `both`: wanted and existing side by side.
pub(super) fn compare(entries: &str) -> String {
    let before = "WITH day AS MATERIALIZED (
            SELECT plan, on_date, date, without, under, responsible, exclusive,
                   string_to_array(deliveries, ',')::date[] AS deliveries, delivery_moved,
                   earliest, latest, ahead, jump, later
            FROM unnest($9::text[], $10::date[], $11::date[], $12::text[], $13::text[],
                        $14::text[], $15::boolean[], $16::text[], $17::text[], $18::time[],
                        $19::time[], $20::integer[], $21::timestamptz[], $22::integer[])
                 AS d (plan, on_date, date, without, under, responsible, exclusive, deliveries,
                       delivery_moved, earliest, latest, ahead, jump, later)),
        entry AS MATERIALIZED (
            SELECT e.id, e.customer_id, e.plan_code, e.contact_time, e.earliest, e.latest,
                   e.priority, e.skills, e.valid_from, e.valid_to,
                   (SELECT c.customer_group FROM customer c
                    WHERE c.tenant_id = $1 AND c.id = e.customer_id) AS customer_group,
                   EXISTS (SELECT FROM inactive_period p
                           WHERE p.tenant_id = $1 AND p.customer_id = e.customer_id
                             AND p.day_type = 'contact') AS may_rest,
                   EXISTS (SELECT FROM inactive_period p
                           WHERE p.tenant_id = $1 AND p.customer_id = e.customer_id
                             AND p.day_type = 'delivery') AS may_wait
            ";
    let after = concat!(
        "),
        slot AS MATERIALIZED (
            SELECT e.id AS entry_id, e.customer_id, e.plan_code, e.contact_time, e.priority,
                   e.skills, e.customer_group, d.on_date, d.date, d.under, d.responsible, d.exclusive,
                   CASE WHEN d.without <> '' THEN d.without
                        WHEN e.may_rest AND EXISTS (
                            SELECT FROM inactive_period p
                            WHERE p.tenant_id = $1 AND p.customer_id = e.customer_id
                              AND p.day_type = 'contact'
                              AND d.date BETWEEN p.first_day AND p.last_day
                              AND (p.weekdays = '{}'
                                   OR extract(isodow FROM d.date)::smallint = ANY(p.weekdays)))
                        THEN 'inactive' ELSE '' END AS without,
                   ", at!("e.contact_time"), " AS contact_at,
                   ", at!("coalesce(e.earliest, d.earliest)"), " AS window_from,
                   ", at!("coalesce(e.latest, d.latest)"), " + interval '1 minute' AS window_to,
                   g.date AS delivery_date,
                   CASE WHEN g.date IS NOT DISTINCT FROM d.deliveries[1] THEN d.delivery_moved
                        ELSE 'inactive' END AS delivery_moved
            FROM entry e
            JOIN day d ON d.plan = e.plan_code
                AND d.date >= coalesce(e.valid_from, '-infinity')
                AND d.date <= coalesce(e.valid_to, 'infinity')
            LEFT JOIN LATERAL (
                SELECT d.deliveries[1] AS date WHERE NOT e.may_wait
                UNION ALL
                (SELECT c.date FROM unnest(d.deliveries) AS c (date)
                 WHERE e.may_wait AND NOT EXISTS (
                     SELECT FROM inactive_period p
                     WHERE p.tenant_id = $1 AND p.customer_id = e.customer_id
                       AND p.day_type = 'delivery'
                       AND c.date BETWEEN p.first_day AND p.last_day
                       AND (p.weekdays = '{}'
                            OR extract(isodow FROM c.date)::smallint = ANY(p.weekdays)))
                 ORDER BY c.date LIMIT 1)) g ON true),
        bounds AS MATERIALIZED (
            SELECT min(on_date) AS first, max(on_date) AS last FROM day),
        near AS MATERIALIZED (
            SELECT k.* FROM planned_contact k
            WHERE k.tenant_id = $1 AND k.customer_id > $5 AND k.customer_id <= $6
              AND k.source = 'plan'
              AND k.contact_date >= least($7, (SELECT first FROM bounds))
              AND k.contact_date <= greatest($8, (SELECT last FROM bounds))
            UNION ALL
            SELECT k.* FROM planned_contact k
            WHERE k.tenant_id = $1 AND k.customer_id > $5 AND k.customer_id <= $6
              AND k.source = 'plan' AND k.contact_date <> k.plan_date
              AND (k.contact_date < least($7, (SELECT first FROM bounds))
                   OR k.contact_date > greatest($8, (SELECT last FROM bounds)))
              AND k.plan_date >= (SELECT first FROM bounds)
              AND k.plan_date <= (SELECT last FROM bounds)),
        existing AS MATERIALIZED (
            SELECT k.*, e.id IS NOT NULL AS in_scope, coalesce(o.plan_code, k.plan_code) AS of_plan,
                   ", kept!(), " AS is_kept, ", why_kept!(), " AS why
            FROM near k
            LEFT JOIN entry e ON e.id = k.entry_id
            LEFT JOIN plan_entry o ON o.tenant_id = $1 AND o.customer_id > $5
                AND o.customer_id <= $6 AND o.id = k.entry_id
            LEFT JOIN day d ON d.plan = e.plan_code AND d.on_date = k.plan_date
            WHERE k.contact_date BETWEEN $7 AND $8 OR d.plan IS NOT NULL),
        kept AS MATERIALIZED (
            SELECT entry_id, plan_date FROM existing WHERE is_kept AND in_scope),
        stay AS MATERIALIZED (
            SELECT x.customer_id, x.contact_date AS date, x.of_plan, bool_or(x.holds_day) AS holds_day
            FROM existing x
            -- The plan that it is made under permits duplicates, or its plan's exception for the date.
            LEFT JOIN contact_plan p ON p.tenant_id = $1 AND p.code = x.plan_code
            LEFT JOIN plan_exception q ON q.tenant_id = $1 AND q.plan_code = x.of_plan
                AND q.plan_date = x.plan_date
            WHERE (x.is_kept OR NOT x.in_scope)
              AND (x.holds_day OR NOT (coalesce(p.duplicates, true) OR coalesce(q.duplicates, false)))
            GROUP BY 1, 2, 3),
        marked AS MATERIALIZED (
            SELECT s.*, s.without = '' AND s.exclusive AND k.entry_id IS NULL AS contends
            FROM slot s
            LEFT JOIN kept k ON k.entry_id = s.entry_id AND k.plan_date = s.on_date),
        contender AS MATERIALIZED (
            SELECT customer_id, date, plan_code, max(priority) AS priority
            FROM marked WHERE contends GROUP BY 1, 2, 3),
        winner AS MATERIALIZED (
            SELECT DISTINCT ON (w.customer_id, w.date) w.customer_id, w.date, w.plan_code
            FROM contender w
            WHERE NOT EXISTS (
                SELECT FROM stay t WHERE t.customer_id = w.customer_id AND t.date = w.date
                                     AND t.of_plan <> w.plan_code)
            ORDER BY w.customer_id, w.date, w.priority DESC, w.plan_code),
        judged AS MATERIALIZED (
            SELECT s.*, w.plan_code IS NOT NULL AS wins, h.date IS NOT NULL AS is_held
            FROM marked s
            LEFT JOIN (SELECT DISTINCT customer_id, date FROM stay WHERE holds_day) h
                ON h.customer_id = s.customer_id AND h.date = s.date
            LEFT JOIN winner w ON w.customer_id = s.customer_id AND w.date = s.date
                              AND w.plan_code = s.plan_code),
        wanted AS MATERIALIZED (
            SELECT j.*, CASE WHEN without <> '' THEN without
                             WHEN contends AND NOT wins THEN 'duplicate' ELSE '' END AS verdict,
                   contends AND wins AND NOT is_held AND row_number() OVER (
                       PARTITION BY customer_id, date, contends AND wins
                       ORDER BY contact_time, entry_id, on_date) = 1 AS holds_day
            FROM judged j),
        both_sides AS MATERIALIZED (
            SELECT w.verdict, x.id, coalesce(w.entry_id, x.entry_id) AS entry_id,
                   coalesce(w.customer_id, x.customer_id) AS customer_id,
                   coalesce(w.on_date, x.plan_date) AS plan_date,
                   coalesce(w.date, x.contact_date) AS contact_date, w.under, w.contact_at,
                   w.window_from, w.window_to, w.delivery_date, w.delivery_moved, w.responsible,
                   w.priority, w.skills, w.holds_day, w.customer_group, x.is_kept, x.why,
                   CASE WHEN x.contact_date <> w.date THEN 'date'
                        WHEN (x.contact_at, x.window_from, x.window_to)
                             IS DISTINCT FROM (w.contact_at, w.window_from, w.window_to) THEN 'time'
                        WHEN (x.delivery_date, x.delivery_moved)
                             IS DISTINCT FROM (w.delivery_date, w.delivery_moved)
                        THEN 'delivery_date'
                        WHEN (x.plan_code, x.responsible, x.priority, x.skills)
                             IS DISTINCT FROM (w.under, w.responsible, w.priority, w.skills)
                        THEN 'details' ELSE '' END AS difference,
                   x.holds_day AS held, coalesce(x.customer_group, '') AS grouped,
                   x.plan_date BETWEEN $7 AND $8 AS is_of_range
            FROM wanted w
            FULL JOIN (SELECT * FROM existing WHERE in_scope) x
                ON x.entry_id = w.entry_id AND x.plan_date = w.on_date)
        INSERT INTO pg_temp.generation_diff
        SELECT CASE WHEN id IS NULL AND verdict = '' THEN 'added'
                    WHEN id IS NULL THEN 'left_out'
                    WHEN verdict = '' AND difference = '' THEN 'unchanged'
                    WHEN is_kept THEN 'kept'
                    WHEN verdict = '' THEN 'changed' ELSE 'removed' END,
               CASE WHEN id IS NULL THEN verdict
                    WHEN verdict = '' AND difference = '' THEN ''
                    WHEN is_kept THEN why
                    WHEN verdict = '' THEN difference
                    ELSE coalesce(verdict, 'no_contact_date') END,
               coalesce(NOT is_kept AND verdict = ''
                        AND (difference <> '' OR held <> holds_day
                             OR grouped IS DISTINCT FROM customer_group), false),
               id, entry_id, customer_id, plan_date, contact_date, under, contact_at, window_from,
               window_to, delivery_date, delivery_moved, responsible, priority, skills, holds_day,
               customer_group
        FROM both_sides
        -- One that a person moved here from a date that is not asked for.
        WHERE verdict IS NOT NULL OR NOT is_kept OR is_of_range"
    );
    format!("{before}{entries}{after}")
}

/// Holds the rows that are to change, and the entries of those that are to come. Whether somebody was at one
/// of them since they were compared, or it is gone.
pub(super) const HOLD: &str = concat!(
    "WITH held AS MATERIALIZED (
         SELECT ",
    kept!(),
    " AS is_kept
         FROM planned_contact k
         WHERE k.tenant_id = $1 AND k.id IN (
             SELECT id FROM pg_temp.generation_diff WHERE change = 'removed' OR write)
         ORDER BY k.id FOR UPDATE),
     entry AS MATERIALIZED (
         SELECT 1 FROM plan_entry e
         WHERE e.tenant_id = $1 AND e.id IN (
             SELECT entry_id FROM pg_temp.generation_diff WHERE change = 'added')
         ORDER BY e.id FOR KEY SHARE)
     SELECT (SELECT count(*) FROM held WHERE NOT is_kept)
            < (SELECT count(*) FROM pg_temp.generation_diff WHERE change = 'removed' OR write)
         OR (SELECT count(*) FROM entry)
            < (SELECT count(DISTINCT entry_id) FROM pg_temp.generation_diff WHERE change = 'added')
         AS is_stale"
);

/// Lets those stay that somebody was at meanwhile.
pub(super) const LOOK_AGAIN: &str = concat!(
    "WITH held AS MATERIALIZED (
         SELECT k.id, ",
    kept!(),
    " AS is_kept, ",
    why_kept!(),
    " AS why
         FROM planned_contact k
         WHERE k.tenant_id = $1 AND k.id IN (
             SELECT id FROM pg_temp.generation_diff WHERE change = 'removed' OR write)
         ORDER BY k.id FOR UPDATE)
     UPDATE pg_temp.generation_diff d SET change = 'kept', reason = k.why, write = false
     FROM held k WHERE k.id = d.id AND k.is_kept"
);

pub(super) const REMOVE: &str = "DELETE FROM planned_contact k USING pg_temp.generation_diff d
     WHERE k.tenant_id = $1 AND k.id = d.id AND d.change = 'removed'";

/// Gives days back before they are given to others.
pub(super) const LET_GO: &str = "UPDATE planned_contact k SET holds_day = false
     FROM pg_temp.generation_diff d
     WHERE k.tenant_id = $1 AND k.id = d.id AND d.write AND k.holds_day
       AND (NOT d.holds_day OR k.contact_date <> d.contact_date)";

pub(super) const UPDATE: &str = "UPDATE planned_contact k
     SET plan_code = d.under, contact_date = d.contact_date, contact_at = d.contact_at,
         window_from = d.window_from, window_to = d.window_to, next_at = d.contact_at,
         delivery_date = d.delivery_date, delivery_moved = d.delivery_moved,
         responsible = d.responsible, priority = d.priority, skills = d.skills,
         holds_day = d.holds_day, not_before = NULL,
         passed_over = '',
         -- As it is by now: an import may have changed it since.
         customer_group = coalesce((SELECT c.customer_group FROM customer c
             WHERE c.tenant_id = $1 AND c.id = k.customer_id), ''),
         operation_id = CASE d.change WHEN 'changed' THEN $2 ELSE k.operation_id END,
         updated_at = CASE d.change WHEN 'changed' THEN now() ELSE k.updated_at END
     FROM pg_temp.generation_diff d
     WHERE k.tenant_id = $1 AND k.id = d.id AND d.write";

pub(super) const INSERT: &str =
    "INSERT INTO planned_contact (tenant_id, id, source, plan_code, entry_id,
         customer_id, plan_date, contact_date, contact_at, window_from, window_to, next_at,
         delivery_date, delivery_moved, responsible, priority, skills, holds_day, operation_id,
         customer_group)
     SELECT $1, anklang_uuid7(), 'plan', under, entry_id, customer_id, plan_date, contact_date,
            contact_at, window_from, window_to, contact_at, delivery_date, delivery_moved,
            responsible, priority, skills, holds_day, $2, customer_group
     FROM pg_temp.generation_diff WHERE change = 'added'
     ORDER BY contact_date, customer_id, entry_id";

pub(super) const FIGURES: &str = "SELECT change, reason, count(*) AS count
     FROM pg_temp.generation_diff GROUP BY 1, 2 ORDER BY 1, 2";

pub(super) const SAMPLE: &str =
    "SELECT d.change, d.reason, e.plan_code AS plan, e.contact_time AS time,
            c.number AS customer, d.plan_date AS on, d.contact_date AS date,
            d.delivery_date AS delivery
     FROM pg_temp.generation_diff d
     JOIN customer c ON c.tenant_id = $1 AND c.id = d.customer_id
     LEFT JOIN plan_entry e ON e.tenant_id = $1 AND e.id = d.entry_id
     WHERE d.change <> 'unchanged'
     ORDER BY c.number, d.contact_date, d.plan_date, e.contact_time, e.plan_code LIMIT $2";

/// Generated contacts `k` up to a day that nobody was at.
macro_rules! old {
    () => {
        concat!(
            "FROM planned_contact k
             JOIN customer c ON c.tenant_id = k.tenant_id AND c.id = k.customer_id
             WHERE k.tenant_id = $1 AND k.source = 'plan' AND k.plan_code = ANY($2)
               AND ($3 = '{}' OR c.number = ANY($3)) AND ($4 = '{}' OR c.customer_group = ANY($4))
               AND k.contact_date <= $5 AND NOT ", kept!()
        )
    };
}

pub(super) const COUNT_OLD: &str = concat!("SELECT count(*) AS n ", old!());

pub(super) const FIND_OLD: &str = concat!(
    "SELECT 'removed' AS change, 'old' AS reason, e.plan_code AS plan, e.contact_time AS time,
            k.number AS customer, k.plan_date AS on, k.contact_date AS date,
            k.delivery_date AS delivery
     FROM (SELECT k.*, c.number ",
    old!(),
    " ORDER BY k.contact_date, k.id LIMIT $6) k
     LEFT JOIN plan_entry e ON e.tenant_id = $1 AND e.id = k.entry_id
     ORDER BY k.contact_date, k.id"
);

pub(super) const REMOVE_OLD: &str = concat!(
    "WITH old AS MATERIALIZED (
         SELECT k.id, c.number ",
    old!(),
    " ORDER BY k.contact_date, k.id LIMIT $6
         FOR UPDATE OF k),
     gone AS (
         DELETE FROM planned_contact k USING old
         WHERE k.tenant_id = $1 AND k.id = old.id
         RETURNING k.id, k.entry_id, old.number, k.plan_date, k.contact_date, k.delivery_date)
     SELECT 'removed' AS change, 'old' AS reason, e.plan_code AS plan, e.contact_time AS time,
            k.number AS customer, k.plan_date AS on, k.contact_date AS date,
            k.delivery_date AS delivery
     FROM gone k
     LEFT JOIN plan_entry e ON e.tenant_id = $1 AND e.id = k.entry_id
     ORDER BY k.contact_date, k.id"
);

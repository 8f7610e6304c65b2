-- Of those who first wrote in one week, how many are back one, two, … weeks later?
--
-- Parameters: none.
-- Cost: a scan of three columns of atproto.events, and memory for one row for each account and week.
--
-- Counts what was seen here: an account that was there before the first event seems new.
WITH active AS (
    SELECT DISTINCT did, date_trunc('week', time) AS week
    FROM atproto.events
    WHERE kind = 'commit' AND operation <> 'delete'
), cohorts AS (
    SELECT did, min(week) AS cohort FROM active GROUP BY did
), kept AS (
    SELECT cohort, CAST(date_part('epoch', week) - date_part('epoch', cohort) AS BIGINT) / 604800 AS weeks_later,
           count(*) AS accounts
    FROM active
    JOIN cohorts ON cohorts.did = active.did
    GROUP BY 1, 2
)
SELECT CAST(cohort AS DATE) AS cohort, weeks_later, accounts,
       round(100.0 * accounts / first_value(accounts) OVER (PARTITION BY cohort ORDER BY weeks_later)) AS percent
FROM kept
ORDER BY cohort, weeks_later

-- How did the number of accounts that an account follows grow, day by day?
--
-- Parameters: $did, the account.
-- Cost: the account's own follows, a few blocks of each month's segments.
--
-- Counts those it still follows, on the day of the first follow; a day without new ones has no row.
WITH followed AS (
    SELECT subject, CAST(min(created_at) AS DATE) AS day
    FROM bsky.follow
    WHERE did = $did
    GROUP BY subject
)
SELECT day, count(*) AS new, sum(count(*)) OVER (ORDER BY day) AS total
FROM followed
GROUP BY day
ORDER BY day

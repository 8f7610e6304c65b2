-- How did the followers of an account grow, day by day?
--
-- Parameters: $did, the account.
-- Cost: a scan of three columns of bsky.follow.
--
-- Counts those who still follow, on the day of their first follow; a day without new ones has no row. Who stopped is
-- not counted anywhere: a deleted follow leaves no word of whom it was about.
WITH followers AS (
    SELECT did, CAST(min(created_at) AS DATE) AS day
    FROM bsky.follow
    WHERE subject = $did
    GROUP BY did
)
SELECT day, count(*) AS new, sum(count(*)) OVER (ORDER BY day) AS total
FROM followers
GROUP BY day
ORDER BY day

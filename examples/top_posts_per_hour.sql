-- Which posts got the most likes in each hour? The first three.
--
-- Parameters: $since and $until, the hours to look at.
-- Cost: the likes of that time, three columns: segments outside of it are left unread.
--
-- An account counts once for each post and hour.
WITH hourly AS (
    SELECT date_trunc('hour', created_at) AS hour, subject_uri AS post, count(DISTINCT did) AS likes
    FROM bsky.like
    WHERE created_at >= $since AND created_at < $until
    GROUP BY 1, 2
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY hour ORDER BY likes DESC, post) AS place FROM hourly
)
SELECT hour, place, post, likes
FROM ranked
WHERE place <= 3
ORDER BY hour, place

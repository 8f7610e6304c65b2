-- Which links do most accounts post, in each hour, day or week? The first ten.
--
-- Parameters: $grain, the window: hour, day or week; $since and $until, the time to look at.
-- Cost: that time's posts, all columns, since atproto.links is derived from whole records.
--
-- Links in the text and in link cards, as they were written: a tracking parameter makes another link.
WITH linked AS (
    SELECT date_trunc($grain, created_at) AS start, did, uri,
           target AS link
    FROM atproto.links
    WHERE collection = 'app.bsky.feed.post' AND target LIKE 'http%'
      AND created_at >= $since AND created_at < $until
), counted AS (
    SELECT start, link, count(DISTINCT did) AS accounts, count(DISTINCT uri) AS posts
    FROM linked
    GROUP BY 1, 2
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY start ORDER BY accounts DESC, posts DESC, link) AS place FROM counted
)
SELECT start, place, link, accounts, posts
FROM ranked
WHERE place <= 10
ORDER BY start, place

-- Which hashtags do most accounts use, in each hour, day or week? The first ten.
--
-- Parameters: $grain, the window: hour, day or week; $since and $until, the time to look at.
-- Cost: tags and facets of that time's posts: segments outside of it are left unread.
--
-- Ranked by accounts, not by uses, so that nobody trends alone. A hashtag is a facet of the text, or stands in `tags`.
WITH posts AS (
    SELECT did, uri, date_trunc($grain, created_at) AS start, tags, facets
    FROM bsky.post
    WHERE created_at >= $since AND created_at < $until
), tagged AS (
    SELECT did, uri, start, unnest(tags) AS tag
    FROM posts
    UNION ALL
    SELECT did, uri, start, feature ->> 'tag' AS tag
    FROM (
        SELECT did, uri, start, unnest(facet['features']) AS feature
        FROM (SELECT did, uri, start, unnest(facets) AS facet FROM posts)
    )
), counted AS (
    SELECT start, lower(tag) AS hashtag, count(DISTINCT did) AS accounts, count(DISTINCT uri) AS posts
    FROM tagged
    WHERE tag IS NOT NULL
    GROUP BY 1, 2
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY start ORDER BY accounts DESC, posts DESC, hashtag) AS place FROM counted
)
SELECT start, place, hashtag, accounts, posts
FROM ranked
WHERE place <= 10
ORDER BY start, place

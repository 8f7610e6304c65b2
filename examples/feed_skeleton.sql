-- What goes into a custom feed? The posts with a hashtag, as app.bsky.feed.getFeedSkeleton wants them.
--
-- Parameters: $tag, in lower case; $cursor, empty for the first page, then the last row's.
-- Cost: a scan of bsky.post's tags and facets; bound it by created_at on a large network.
--
-- A cursor is a post's time and CID, so that pages neither repeat nor miss what has the same time.
WITH tagged AS (
    SELECT uri, cid, least(created_at, indexed_at) AS at, unnest(tags) AS tag
    FROM bsky.post
    UNION ALL
    SELECT uri, cid, at, feature ->> 'tag' AS tag
    FROM (
        SELECT uri, cid, at, unnest(facet['features']) AS feature
        FROM (SELECT uri, cid, least(created_at, indexed_at) AS at, unnest(facets) AS facet FROM bsky.post)
    )
), entries AS (
    SELECT DISTINCT uri AS post, to_char(at, '%Y-%m-%dT%H:%M:%S%.6fZ') || '::' || cid AS cursor
    FROM tagged
    WHERE lower(tag) = $tag
)
SELECT post, cursor
FROM entries
WHERE $cursor = '' OR cursor < $cursor
ORDER BY cursor DESC
LIMIT 50

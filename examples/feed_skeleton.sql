-- What goes into a custom feed? The posts with a hashtag, as app.bsky.feed.getFeedSkeleton wants them.
--
-- Parameters: $tag, in lower case; $cursor, empty for the first page, then the last row's.
-- Cost: a scan of bsky.post's tags and facets; bound it by created_at on a large network.
--
-- A cursor is a post's time in microseconds and its CID, so that pages neither repeat nor miss what has the same time.
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
    SELECT DISTINCT uri, cid, CAST(at AS BIGINT) AS micros
    FROM tagged
    WHERE lower(tag) = $tag
), last AS (
    SELECT TRY_CAST(split_part($cursor, '::', 1) AS BIGINT) AS micros, split_part($cursor, '::', 2) AS cid
)
SELECT e.uri AS post, CAST(e.micros AS VARCHAR) || '::' || e.cid AS cursor
FROM entries e
CROSS JOIN last
WHERE last.micros IS NULL OR e.micros < last.micros OR (e.micros = last.micros AND e.cid < last.cid)
ORDER BY e.micros DESC, e.cid DESC
LIMIT 50

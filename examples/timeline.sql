-- What did those say whom an account follows? Their posts and reposts without answers, newest first.
--
-- Parameters: $did, the account; $since and $before, the time to look at; for the next page, $before is the last `at`.
-- Cost: the posts and reposts of that time; the account's own follows are a few blocks.
--
-- `created_at` is what a client says. What claims to be of the future is placed when it arrived.
WITH followees AS (
    SELECT DISTINCT subject AS did FROM bsky.follow WHERE did = $did
), entries AS (
    SELECT least(created_at, indexed_at) AS at, did, 'post' AS kind, uri AS post
    FROM bsky.post
    WHERE created_at >= $since AND reply_parent_uri IS NULL
    UNION ALL
    SELECT least(created_at, indexed_at), did, 'repost', subject_uri
    FROM bsky.repost
    WHERE created_at >= $since
)
SELECT e.at, e.did, e.kind, e.post
FROM entries e
JOIN followees f ON f.did = e.did
WHERE e.at < $before
ORDER BY e.at DESC, e.post
LIMIT 30

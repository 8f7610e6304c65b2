-- What does a thread say? The whole tree, each answer below what it answers, older ones first.
--
-- Parameters: $uri, the post that began it.
-- Cost: a scan of bsky.post's reply columns for each level of the tree.
--
-- Only answers that name $uri as their root belong to it. What answers a deleted or hidden post is not reached.
WITH RECURSIVE thread AS (
    SELECT uri, did, text, 0 AS depth, [struct(coalesce(created_at, indexed_at), uri)] AS place
    FROM bsky.post
    WHERE uri = $uri
    UNION ALL
    SELECT p.uri, p.did, p.text, t.depth + 1,
           array_append(t.place, struct(coalesce(p.created_at, p.indexed_at), p.uri))
    FROM thread t
    JOIN bsky.post p ON p.reply_parent_uri = t.uri
    WHERE p.reply_root_uri = $uri AND t.depth < 100
)
SELECT depth, repeat('  ', depth) || text AS text, uri
FROM thread
ORDER BY place

-- How many likes, reposts, replies and quotes has a post?
--
-- Parameters: $uri, the post.
-- Cost: a scan of one column each of bsky.like, bsky.repost and bsky.post (replies), and of bsky.post's embeds, as JSON
-- (quotes).
--
-- Likes and reposts count an account once, however often its client wrote the record. `replies` are direct ones,
-- `thread` is all that is said below, where the post began the thread.
SELECT
    (SELECT count(DISTINCT did) FROM bsky.like WHERE subject_uri = $uri) AS likes,
    (SELECT count(DISTINCT did) FROM bsky.repost WHERE subject_uri = $uri) AS reposts,
    (SELECT count(*) FROM bsky.post WHERE reply_parent_uri = $uri) AS replies,
    (SELECT count(*) FROM bsky.post WHERE reply_root_uri = $uri) AS thread,
    (SELECT count(*) FROM bsky.post
     WHERE coalesce(embed -> 'record' ->> 'uri', embed -> 'record' -> 'record' ->> 'uri') = $uri) AS quotes

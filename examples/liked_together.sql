-- Who liked this post also liked: which ones?
--
-- Parameters: $uri, the post.
-- Cost: three scans of two columns of bsky.like; bound them by created_at on a large network.
--
-- Of posts with as many common likers, the one with fewer others goes first: it is more specific.
WITH likers AS (
    SELECT DISTINCT did FROM bsky.like WHERE subject_uri = $uri
), together AS (
    SELECT l.subject_uri AS post, count(DISTINCT l.did) AS likers
    FROM bsky.like l
    JOIN likers ON likers.did = l.did
    WHERE l.subject_uri <> $uri
    GROUP BY l.subject_uri
)
SELECT t.post, t.likers, count(DISTINCT l.did) AS likes
FROM together t
JOIN bsky.like l ON l.subject_uri = t.post
GROUP BY t.post, t.likers
ORDER BY t.likers DESC, likes, t.post
LIMIT 20

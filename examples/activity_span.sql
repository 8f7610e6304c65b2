-- When did an account first post, when last, and on how many days between?
--
-- Parameters: none.
-- Cost: a scan of three columns of bsky.post.
--
-- For one account add WHERE did = …: then it is a few blocks. What claims to be of the future counts when it arrived.
WITH posts AS (
    SELECT did, least(created_at, indexed_at) AS at FROM bsky.post
)
SELECT did, min(at) AS first, max(at) AS last, CAST(max(at) AS DATE) - CAST(min(at) AS DATE) AS span,
       count(DISTINCT CAST(at AS DATE)) AS days, count(*) AS posts
FROM posts
GROUP BY did
ORDER BY first, did
LIMIT 100

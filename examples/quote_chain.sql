-- What does a post quote, and what does that quote, back to the beginning?
--
-- Parameters: $uri, the post.
-- Cost: a scan of bsky.post for each step: a URI that a join brings is not looked up by its key.
--
-- Ends where a post quotes nothing, or quotes what is deleted or hidden.
WITH RECURSIVE chain AS (
    SELECT 0 AS step, uri, text,
           coalesce(embed -> 'record' ->> 'uri', embed -> 'record' -> 'record' ->> 'uri') AS quoted
    FROM bsky.post
    WHERE uri = $uri
    UNION ALL
    SELECT c.step + 1, p.uri, p.text,
           coalesce(p.embed -> 'record' ->> 'uri', p.embed -> 'record' -> 'record' ->> 'uri')
    FROM chain c
    JOIN bsky.post p ON p.uri = c.quoted
    WHERE c.step < 100
)
SELECT step, text, uri FROM chain ORDER BY step

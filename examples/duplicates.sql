-- Which likes and follows were written more than once by one account, and what is the count without them?
--
-- Parameters: none.
-- Cost: scans of two columns of bsky.like and bsky.follow, and memory for one row for each subject.
--
-- A client that tries again after a lost answer makes a second record. Both are valid; a count of accounts counts one.
WITH edges AS (
    SELECT 'like' AS kind, subject_uri AS subject, did FROM bsky.like
    UNION ALL
    SELECT 'follow', subject, did FROM bsky.follow
)
SELECT kind, subject, count(*) AS records, count(DISTINCT did) AS accounts
FROM edges
GROUP BY kind, subject
HAVING count(*) > count(DISTINCT did)
ORDER BY kind, subject

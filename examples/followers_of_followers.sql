-- Who follows the followers of an account, without following it? The second ring.
--
-- Parameters: $did, the account.
-- Cost: two scans of bsky.follow, and memory for the pairs that meet in it: much for an account with millions.
--
-- `through` counts the followers who connect them.
WITH ring AS (
    SELECT DISTINCT did FROM bsky.follow WHERE subject = $did
), pairs AS (
    SELECT DISTINCT f.did, f.subject AS through
    FROM bsky.follow f
    JOIN ring ON ring.did = f.subject
)
SELECT did, count(*) AS through
FROM pairs
WHERE did <> $did
  AND NOT EXISTS (SELECT 1 FROM ring WHERE ring.did = pairs.did)
GROUP BY did
ORDER BY through DESC, did
LIMIT 100

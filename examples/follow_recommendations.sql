-- Whom should an account follow? Those whom most of its followees follow.
--
-- Parameters: $did, the account.
-- Cost: a scan of bsky.follow for what its followees follow, one of bsky.block for who blocks it.
--
-- Leaves out whom it follows already, and whoever blocks it or is blocked by it. Divide by the candidate's own number
-- of followers to favour the less known.
WITH followees AS (
    SELECT DISTINCT subject AS did FROM bsky.follow WHERE did = $did
), candidates AS (
    SELECT DISTINCT f.subject AS did, f.did AS followee
    FROM bsky.follow f
    JOIN followees ON followees.did = f.did
), blocks AS (
    SELECT subject AS did FROM bsky.block WHERE did = $did
    UNION ALL
    SELECT did FROM bsky.block WHERE subject = $did
)
SELECT did, count(*) AS followees
FROM candidates
WHERE did <> $did
  AND NOT EXISTS (SELECT 1 FROM followees WHERE followees.did = candidates.did)
  AND NOT EXISTS (SELECT 1 FROM blocks WHERE blocks.did = candidates.did)
GROUP BY did
ORDER BY followees DESC, did
LIMIT 50

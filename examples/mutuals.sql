-- Whom does an account follow who follows it back?
--
-- Parameters: $did, the account.
-- Cost: a scan of bsky.follow for those who follow it; its own follows are a few blocks.
--
-- `since` is when the later of the two follows was made.
WITH mine AS (
    SELECT subject AS did, min(created_at) AS at FROM bsky.follow WHERE did = $did GROUP BY subject
), theirs AS (
    SELECT did, min(created_at) AS at FROM bsky.follow WHERE subject = $did GROUP BY did
)
SELECT mine.did, greatest(mine.at, theirs.at) AS since
FROM mine
JOIN theirs ON theirs.did = mine.did
ORDER BY since, mine.did

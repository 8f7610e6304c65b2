-- Whom does an account block, and who blocks it, alone or by a list?
--
-- Parameters: $did, the account.
-- Cost: scans of bsky.block, bsky.listblock and bsky.listitem, which are small tables.
--
-- A list's items count where the list's own account wrote them.
WITH blocked_by_list AS (
    SELECT b.did, i.subject, b.subject AS list, b.created_at
    FROM bsky.listblock b
    JOIN bsky.listitem i ON i.list = b.subject AND i.did = split_part(b.subject, '/', 3)
), pairs AS (
    SELECT did, subject, CAST(NULL AS VARCHAR) AS list, created_at FROM bsky.block
    UNION ALL
    SELECT did, subject, list, created_at FROM blocked_by_list
)
SELECT did AS blocker, subject AS blocked, list, min(created_at) AS since
FROM pairs
WHERE did = $did OR subject = $did
GROUP BY did, subject, list
ORDER BY since, blocker, blocked, list

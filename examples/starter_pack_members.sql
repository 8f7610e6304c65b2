-- Whom does a starter pack recommend?
--
-- Parameters: $pack, the starter pack's URI.
-- Cost: the starter pack itself, a point look-up, and a scan of bsky.listitem.
SELECT p.name, i.subject AS did
FROM bsky.starterpack p
JOIN bsky.listitem i ON i.list = p.list AND i.did = split_part(p.list, '/', 3)
WHERE p.uri = $pack
GROUP BY p.name, i.subject
ORDER BY did

-- Who is on a list?
--
-- Parameters: $list, the list's URI.
-- Cost: the items of the list's owner, a few blocks of each month's segments.
--
-- Only its owner puts somebody on a list: items in other repositories are ignored, as apps do.
SELECT subject AS did, min(created_at) AS since
FROM bsky.listitem
WHERE list = $list AND did = split_part($list, '/', 3)
GROUP BY subject
ORDER BY since, did

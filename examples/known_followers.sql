-- Which of the accounts that you follow also follow this one?
--
-- Parameters: $viewer, you; $did, the account that you look at.
-- Cost: a scan of bsky.follow for those who follow $did; the viewer's own follows are a few blocks.
SELECT DISTINCT did
FROM bsky.follow
WHERE subject = $did
  AND did IN (SELECT subject FROM bsky.follow WHERE did = $viewer)
ORDER BY did

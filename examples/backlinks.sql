-- What refers to a post, an account or a web page, and from where?
--
-- Parameters: $target, an AT URI, a DID or a URL, as it stands in the records.
-- Cost: a scan of all records, since atproto.links is derived from them; name collections to read less.
--
-- For everything below an account use target_did instead of target. Select uri instead of counts to see who.
SELECT collection, path, count(*) AS links, count(DISTINCT did) AS accounts, min(created_at) AS first
FROM atproto.links
WHERE target = $target
GROUP BY collection, path
ORDER BY links DESC, collection, path

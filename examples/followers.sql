-- Who follows an account? Newest first.
--
-- Parameters: $did, the account.
-- Cost: a scan of bsky.follow, since follows are kept with who made them; and what is known of all accounts, for the
-- handles: leave that join out where DIDs are enough.
--
-- A client may write the same follow twice; each follower stands here once, since the first.
SELECT f.did, a.handle, min(f.created_at) AS since
FROM bsky.follow f
LEFT JOIN atproto.accounts a ON a.did = f.did
WHERE f.subject = $did
GROUP BY f.did, a.handle
ORDER BY since DESC, f.did

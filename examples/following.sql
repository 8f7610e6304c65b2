-- Whom does an account follow, and are they still there? Newest first.
--
-- Parameters: $did, the account.
-- Cost: the account's own follows, a few blocks of each month's segments; and what is known of all accounts.
--
-- A follow is a record of the one who follows, so it stays when the other account is deactivated or deleted: `status`
-- says so.
SELECT f.subject AS did, a.handle, a.status, min(f.created_at) AS since
FROM bsky.follow f
LEFT JOIN atproto.accounts a ON a.did = f.subject
WHERE f.did = $did
GROUP BY f.subject, a.handle, a.status
ORDER BY since DESC, f.subject

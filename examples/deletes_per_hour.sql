-- How much is deleted, hour by hour, and by how many?
--
-- Parameters: $since and $until, the time to look at.
-- Cost: that time's events: they are kept in the order of time.
SELECT date_trunc('hour', time) AS hour, collection, count(*) AS deletes, count(DISTINCT did) AS accounts
FROM atproto.events
WHERE operation = 'delete' AND time >= $since AND time < $until
GROUP BY 1, 2
ORDER BY 1, deletes DESC, collection

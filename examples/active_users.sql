-- How many accounts are active each day, week or month?
--
-- Parameters: $grain: day, week or month.
-- Cost: a scan of three columns of atproto.events; bound it by time on a large network.
--
-- Active is who wrote something, also what was deleted later: events stay. What came by an import has no events.
SELECT date_trunc($grain, time) AS start, count(DISTINCT did) AS accounts
FROM atproto.events
WHERE kind = 'commit' AND operation <> 'delete'
GROUP BY 1
ORDER BY 1

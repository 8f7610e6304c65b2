-- How many accounts write each type of record, over time?
--
-- Parameters: $grain: hour, day, week or month.
-- Cost: a scan of four columns of atproto.events; bound it by time on a large network.
SELECT date_trunc($grain, time) AS start, collection, count(DISTINCT did) AS accounts, count(*) AS records
FROM atproto.events
WHERE operation = 'create'
GROUP BY 1, 2
ORDER BY 1, accounts DESC, collection

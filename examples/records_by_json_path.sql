-- What do records of a type without a Lexicon say? Here: which artists are played most, by fm.teal.alpha.feed.play.
--
-- Parameters: none.
-- Cost: a scan of that collection's records; the JSON is made and read for each.
--
-- -> goes into an object or a list, ->> takes what is there as text, ? asks whether it is there. Once `alluvium lexicon
-- add` has brought the Lexicon, the same is there as typed columns.
SELECT record -> 'artists' -> 0 ->> 'artistName' AS artist,
       count(*) AS plays,
       count(DISTINCT did) AS listeners,
       sum(CAST(record ->> 'duration' AS BIGINT)) AS seconds,
       count(*) FILTER (WHERE record ? 'duration') AS with_duration
FROM atproto.records
WHERE collection = 'fm.teal.alpha.feed.play'
GROUP BY artist
ORDER BY plays DESC, artist

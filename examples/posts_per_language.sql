-- In which languages do people write?
--
-- Parameters: $since and $until, the time to look at.
-- Cost: two columns of that time's posts.
--
-- Counts what clients say: a post in two languages counts in both, one that names none under `none`. `en-US` is `en`.
WITH written AS (
    SELECT did, uri, unnest(CASE WHEN cardinality(langs) > 0 THEN langs ELSE ['none'] END) AS lang
    FROM bsky.post
    WHERE created_at >= $since AND created_at < $until
)
SELECT split_part(lower(lang), '-', 1) AS language, count(DISTINCT uri) AS posts, count(DISTINCT did) AS accounts
FROM written
GROUP BY 1
ORDER BY posts DESC, language

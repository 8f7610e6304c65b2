-- Who liked, reposted, answered and quoted a post, in order?
--
-- Parameters: $uri, the post.
-- Cost: as for post_counts.sql.
--
-- A quote stands in `embed.record`, or in `embed.record.record` where the post also has pictures.
SELECT min(created_at) AS at, 'like' AS kind, did FROM bsky.like WHERE subject_uri = $uri GROUP BY did
UNION ALL
SELECT min(created_at), 'repost', did FROM bsky.repost WHERE subject_uri = $uri GROUP BY did
UNION ALL
SELECT created_at, 'reply', did FROM bsky.post WHERE reply_parent_uri = $uri
UNION ALL
SELECT created_at, 'quote', did
FROM bsky.post
WHERE coalesce(embed -> 'record' ->> 'uri', embed -> 'record' -> 'record' ->> 'uri') = $uri
ORDER BY at, did

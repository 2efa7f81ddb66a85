"""The training set of a study: all sources audited, encoded and joined; running text in shards."""

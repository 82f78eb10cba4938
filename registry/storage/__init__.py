"""Storage: the database pool, the embedded server, group commit and partitions."""

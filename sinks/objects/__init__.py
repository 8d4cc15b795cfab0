"""What destinations in buckets have in common: the log of `sinks.files`, where creation is conditional."""

"""Message formats: changes as bytes for consumers that are not databases."""

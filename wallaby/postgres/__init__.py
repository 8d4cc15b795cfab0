"""The PostgreSQL edge: connections, the replication stream, catalog facts, slots, publications and checks."""

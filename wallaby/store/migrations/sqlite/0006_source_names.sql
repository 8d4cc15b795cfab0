CREATE TABLE source_names (
    flow_id TEXT NOT NULL,
    table_oid INTEGER NOT NULL,
    server TEXT NOT NULL,
    names TEXT NOT NULL,
    PRIMARY KEY (flow_id, table_oid)
) STRICT;

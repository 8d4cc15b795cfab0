CREATE TABLE wallaby.source_names (
    flow_id text COLLATE "C" NOT NULL,
    table_oid bigint NOT NULL,
    server text NOT NULL,
    names text NOT NULL,
    PRIMARY KEY (flow_id, table_oid)
);

ALTER TABLE wallaby.flows
    ADD COLUMN copies_wanted bigint NOT NULL DEFAULT 0,
    ADD COLUMN copies_begun bigint NOT NULL DEFAULT 0;

CREATE TABLE wallaby.table_copies (
    flow_id text COLLATE "C" NOT NULL,
    number integer NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'copying', 'copied')),
    epoch bigint NOT NULL,
    snapshot_lsn text NOT NULL,
    estimated_rows bigint NOT NULL,
    estimated_bytes bigint NOT NULL,
    copied_rows bigint NOT NULL,
    copied_bytes bigint NOT NULL,
    started_at timestamptz,
    updated_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (flow_id, number)
);

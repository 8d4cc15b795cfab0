CREATE TABLE wallaby.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow_id text NOT NULL,
    destination text NOT NULL,
    lane integer NOT NULL,
    epoch bigint NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    position text NOT NULL,
    upto text NOT NULL,
    row_count bigint NOT NULL,
    op text NOT NULL,
    keys text,
    error text NOT NULL,
    message text NOT NULL,
    attempts integer NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'replaying', 'replayed', 'discarded')),
    decision bigint,
    created_at timestamptz NOT NULL,
    decided_at timestamptz,
    key_id text NOT NULL,
    sealed bytea,
    sealed_bytes bigint NOT NULL
);

CREATE INDEX dead_letters_by_lane ON wallaby.dead_letters (flow_id, destination, lane, state, id);
CREATE INDEX dead_letters_by_decision ON wallaby.dead_letters (flow_id, decision);

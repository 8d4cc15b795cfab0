CREATE TABLE wallaby.ddl_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow_id text NOT NULL,
    ddl text NOT NULL,
    plan_json text NOT NULL,
    position text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'applied')),
    created_at timestamptz NOT NULL,
    decided_at timestamptz,
    UNIQUE (flow_id, position)
);

CREATE INDEX ddl_events_by_status ON wallaby.ddl_events (status, id);

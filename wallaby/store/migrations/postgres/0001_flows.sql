CREATE TABLE wallaby.flows (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    spec jsonb NOT NULL,
    spec_version integer NOT NULL,
    state text NOT NULL CHECK (state IN ('created', 'running', 'paused', 'stopping', 'stopped', 'failed')),
    run_once boolean NOT NULL,
    revision bigint NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE wallaby.flow_state_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow_id text NOT NULL,
    command text,
    from_state text,
    to_state text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE INDEX flow_state_events_by_flow ON wallaby.flow_state_events (flow_id, id);

CREATE TABLE wallaby.checkpoints (
    flow_id text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    position text NOT NULL,
    lanes jsonb NOT NULL,
    committed_epoch bigint,
    committed_at timestamptz,
    source_identity jsonb,
    snapshot_status text CHECK (snapshot_status IN ('pending', 'copying', 'done')),
    snapshot_epoch bigint,
    snapshot_slot text,
    snapshot_consistent_point text
);

CREATE TABLE wallaby.changes (
    id integer PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL
);

INSERT INTO wallaby.changes (id, version) VALUES (1, 0);

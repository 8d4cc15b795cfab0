"""The set-based statements of groups, as text. Pure; nothing here talks to a server.

Parameters are numbered; ``$1`` is always the stream and ``$2`` the group. Two words recur: a delivery is *out* while it
is ``claimed`` or ``available``, and *open* while it is out or ``blocked``.

Every statement looks rows up by index whatever the planner believes: these tables grow and shrink too fast for its
statistics, and a join it turns around reads a whole group for each message. So lookups are LATERAL queries with a
LIMIT, scalar queries, or ``= ANY (ARRAY (…))``, none of which is ever turned around; and what lies behind a cursor,
where numbers have no gaps and no delivery exists, is read by a range of numbers.
"""

from __future__ import annotations

from wallaby.streams.schema import Tables

_OUT = "('available', 'claimed')"


class Statements:
    """Every statement, for the tables of one schema."""

    def __init__(self, tables: Tables) -> None:
        t = tables
        mine = "d.stream = $1 AND d.consumer_group = $2"
        self.make_group = (
            f"INSERT INTO {t.groups} (stream, consumer_group) SELECT $1, $2 FROM {t.streams} WHERE stream = $1"
            " ON CONFLICT DO NOTHING"
        )
        # The mark lasts as long as the lock: a pull that found no group to lock might see one a moment later.
        self.lock_group = (
            "SELECT g.is_ordered, g.max_attempts, set_config('wallaby.group', 'locked', true)"
            f" FROM (SELECT is_ordered, max_attempts FROM {t.groups}"
            " WHERE stream = $1 AND consumer_group = $2 FOR UPDATE) AS g"
        )
        # Acknowledgements of groups without order need not wait for pulls.
        self.lock_ordered_group = (
            f"SELECT FROM {t.groups} WHERE stream = $1 AND consumer_group = $2 AND is_ordered FOR UPDATE"
        )
        self.bury = f"""
            WITH spent AS MATERIALIZED (
                SELECT d.event_id FROM {t.deliveries} d
                WHERE {mine} AND d.status IN {_OUT} AND d.visible_at <= statement_timestamp() AND d.attempts >= (
                    SELECT nullif(max_attempts, 0) FROM {t.groups} WHERE stream = $1 AND consumer_group = $2)
                ORDER BY d.visible_at, d.event_id LIMIT $3 FOR UPDATE SKIP LOCKED),
            finished AS (
                UPDATE {t.deliveries} d SET status = 'dead', updated_at = statement_timestamp()
                WHERE {mine} AND d.event_id = ANY (ARRAY(SELECT event_id FROM spent)) RETURNING d.key_hash),
            {self._promoted(t)}
            SELECT count(*) FROM finished"""
        self.pull = self._pull(t)
        self.ack = f"""
            WITH {self._held(t, "('claimed', 'acked')")},
            finished AS (
                UPDATE {t.deliveries} d SET status = 'acked', updated_at = statement_timestamp()
                WHERE {mine} AND d.event_id = ANY (ARRAY(SELECT event_id FROM held WHERE status = 'claimed'))
                RETURNING d.key_hash),
            {self._promoted(t)},
            {self._woken("promoted")}
            {self._answer(wakes=True)}"""
        self.extend = f"""
            WITH {self._held(t, "('claimed')")},
            extended AS (
                UPDATE {t.deliveries} d SET visible_at = statement_timestamp() + make_interval(secs => $6),
                    updated_at = statement_timestamp()
                WHERE {mine} AND d.event_id = ANY (ARRAY(SELECT event_id FROM held)))
            {self._answer()}"""
        self.give_back = f"""
            WITH {self._held(t, "('claimed')")},
            returned AS (
                UPDATE {t.deliveries} d SET updated_at = statement_timestamp(), status = CASE
                        WHEN d.attempts >= (SELECT nullif(max_attempts, 0) FROM {t.groups}
                            WHERE stream = $1 AND consumer_group = $2) THEN 'dead' ELSE 'available' END,
                    visible_at = statement_timestamp() + make_interval(secs => $6)
                WHERE {mine} AND d.event_id = ANY (ARRAY(SELECT event_id FROM held))
                RETURNING d.status, d.key_hash),
            finished AS (SELECT key_hash FROM returned WHERE status = 'dead'),
            {self._promoted(t)},
            {self._woken("returned")}
            {self._answer(wakes=True)}"""
        is_ordered = f"(SELECT is_ordered FROM {t.groups} WHERE stream = $1 AND consumer_group = $2)"
        matches = "($3::pg_lsn IS NULL OR e.lsn >= $3) AND ($4::timestamptz IS NULL OR e.created_at >= $4)"
        self.replay = f"""
            WITH first AS MATERIALIZED (
                SELECT min(e.id) AS id FROM {t.events} e WHERE e.stream = $1 AND {matches} AND e.id <= (
                    SELECT cursor_id FROM {t.groups} WHERE stream = $1 AND consumer_group = $2)),
            renewed AS (
                UPDATE {t.deliveries} d SET status = 'available', visible_at = statement_timestamp(), attempts = 0,
                    consumer_id = '', claim = 0, updated_at = statement_timestamp()
                FROM {t.events} e
                WHERE {mine} AND d.event_id >= (SELECT id FROM first) AND NOT {is_ordered}
                    AND e.stream = $1 AND e.id = d.event_id AND {matches} RETURNING 1),
            removed AS (
                DELETE FROM {t.deliveries} d
                WHERE {mine} AND d.event_id >= (SELECT id FROM first) AND {is_ordered} RETURNING 1),
            rewound AS (
                UPDATE {t.groups} g SET cursor_id = first.id - 1 FROM first
                WHERE g.stream = $1 AND g.consumer_group = $2 AND g.is_ordered AND first.id <= g.cursor_id),
            reset AS (SELECT FROM renewed UNION ALL SELECT FROM removed),
            {self._woken("reset")}
            SELECT (SELECT count(*) FROM reset) FROM (SELECT count(*) FROM woken) AS w"""
        self.promote_orphans = f"""
            UPDATE {t.deliveries} d SET status = 'available', visible_at = statement_timestamp(),
                updated_at = statement_timestamp()
            WHERE {mine} AND d.event_id = ANY (ARRAY(
                SELECT b.event_id FROM (
                    SELECT key_hash, min(event_id) AS event_id FROM {t.deliveries}
                    WHERE stream = $1 AND consumer_group = $2 AND status = 'blocked' GROUP BY key_hash) AS b
                WHERE (SELECT 1 FROM {t.deliveries} o WHERE o.stream = $1 AND o.consumer_group = $2
                    AND o.key_hash = b.key_hash AND o.status IN {_OUT} LIMIT 1) IS NULL))"""
        self.dead_letters = f"""
            SELECT e.id, e.namespace, e.table_name, e.operation, e.key, e.lsn::text, e.wire_format, e.payload,
                e.created_at, d.attempts, d.claim, d.visible_at, d.consumer_id
            FROM {t.deliveries} d JOIN {t.events} e ON e.stream = d.stream AND e.id = d.event_id
            WHERE {mine} AND d.status = 'dead' AND d.event_id > $3 ORDER BY d.event_id LIMIT $4"""
        self.redrive = f"""
            WITH redriven AS (
                UPDATE {t.deliveries} d SET status = CASE WHEN d.key_hash IS NULL THEN 'available' ELSE 'blocked' END,
                    attempts = 0, visible_at = statement_timestamp(), updated_at = statement_timestamp()
                WHERE {mine} AND d.status = 'dead' AND ($3::bigint[] IS NULL OR d.event_id = ANY($3)) RETURNING 1),
            {self._woken("redriven")}
            SELECT (SELECT count(*) FROM redriven) FROM (SELECT count(*) FROM woken) AS w"""
        self.has_open = f"""
            SELECT {self._has_open(t)}"""
        self.unblock = f"""
            UPDATE {t.deliveries} d SET status = 'available', visible_at = statement_timestamp(),
                updated_at = statement_timestamp() WHERE {mine} AND d.status = 'blocked'"""
        self.configure = (
            f"UPDATE {t.groups} SET is_ordered = $3, max_attempts = $4 WHERE stream = $1 AND consumer_group = $2"
        )
        self.drop_deliveries = f"DELETE FROM {t.deliveries} d WHERE {mine}"
        self.drop_group = f"DELETE FROM {t.groups} WHERE stream = $1 AND consumer_group = $2"
        self.status = self._status(t)
        self.has_group = f"SELECT FROM {t.groups} WHERE stream = $1 AND consumer_group = $2"
        self.has_stream = f"SELECT FROM {t.streams} WHERE stream = $1"
        self.due_retention = (
            f"SELECT stream FROM {t.streams} WHERE stream = $1 AND (retention_age IS NOT NULL"
            " OR retention_bytes IS NOT NULL) AND retained_at < clock_timestamp() - make_interval(secs => $2)"
        )
        self.begin_retention = (
            f"UPDATE {t.streams} SET retained_at = clock_timestamp() WHERE stream = (SELECT stream FROM {t.streams}"
            " WHERE stream = $1 AND (retention_age IS NOT NULL OR retention_bytes IS NOT NULL)"
            " FOR UPDATE SKIP LOCKED) RETURNING stream"
        )
        self.lock_groups = f"SELECT FROM {t.groups} WHERE stream = $1 ORDER BY consumer_group FOR UPDATE"
        self.retain_page = self._retain_page(t)
        self.ordered_groups = f"SELECT consumer_group FROM {t.groups} WHERE stream = $1 AND is_ordered"

    @classmethod
    def _pull(cls, t: Tables) -> str:
        """``$3`` messages, ``$4`` seconds, ``$5`` consumer, ``$6`` bytes, ``$7`` look-ahead, ``$8`` blocked at most.

        The group's row is locked by a statement before this one, which therefore sees all that its holders did.
        Acknowledgements of groups without order hold no such lock: ``due`` takes only rows nobody else has locked, and
        looks at their newest version.
        """
        mine = "d.stream = $1 AND d.consumer_group = $2"
        return f"""
            WITH grp AS MATERIALIZED (
                SELECT g.cursor_id, g.is_ordered, s.last_id, greatest(g.cursor_id, coalesce(
                        (SELECT min(id) FROM {t.events} WHERE stream = $1), s.last_id + 1) - 1) AS start_id,
                    nextval('{t.claims}') AS claim,
                    statement_timestamp() AS now, statement_timestamp() + make_interval(secs => $4) AS until
                FROM {t.groups} g JOIN {t.streams} s USING (stream)
                WHERE g.stream = $1 AND g.consumer_group = $2
                    AND current_setting('wallaby.group', true) = 'locked'),
            due AS MATERIALIZED (
                SELECT d.event_id FROM {t.deliveries} d
                WHERE {mine} AND d.status IN {_OUT} AND d.visible_at <= statement_timestamp()
                ORDER BY d.visible_at, d.event_id LIMIT $3 FOR UPDATE SKIP LOCKED),
            due_sized AS (
                SELECT due.event_id AS id, e.size, sum(e.size) OVER (ORDER BY due.event_id) AS total
                FROM due CROSS JOIN LATERAL (
                    SELECT octet_length(payload) AS size FROM {t.events}
                    WHERE stream = $1 AND id = due.event_id LIMIT 1) AS e),
            again AS MATERIALIZED (SELECT id, size FROM due_sized WHERE total - size < $6),
            reclaimed AS (
                UPDATE {t.deliveries} d SET status = 'claimed', visible_at = grp.until, attempts = d.attempts + 1,
                    consumer_id = $5, claim = grp.claim, updated_at = grp.now
                FROM grp WHERE {mine} AND d.event_id = ANY (ARRAY(SELECT id FROM again))
                RETURNING d.event_id, d.attempts),
            room AS MATERIALIZED (
                SELECT $3 - count(*) AS messages, $6 - coalesce(sum(size), 0) AS bytes FROM again),
            reach AS MATERIALIZED (
                SELECT CASE
                    WHEN room.messages <= 0 OR room.bytes <= 0 THEN 0
                    WHEN NOT grp.is_ordered THEN room.messages
                    WHEN $8 <= (SELECT count(*) FROM (SELECT FROM {t.deliveries} d
                        WHERE {mine} AND d.status = 'blocked' LIMIT $8) AS b) THEN 0
                    WHEN 'truncate' = (SELECT operation FROM {t.events} WHERE stream = $1 AND id = grp.cursor_id)
                        AND (SELECT d.status FROM {t.deliveries} d WHERE {mine} AND d.event_id = grp.cursor_id)
                            IN {_OUT} THEN 0
                    ELSE greatest($7, room.messages) END AS messages
                FROM grp, room),
            ahead AS MATERIALIZED (
                SELECT e.id, octet_length(e.payload) AS size, grp.is_ordered AND e.operation = 'truncate' AS is_barrier,
                    CASE WHEN grp.is_ordered AND e.key IS NOT NULL THEN hashtextextended(
                        concat_ws(E'\\x01', e.namespace, e.table_name, e.key), 0) END AS key_hash
                FROM grp CROSS JOIN {t.events} e
                WHERE e.stream = $1 AND e.id > (SELECT start_id FROM grp)
                    AND e.id <= (SELECT start_id + messages FROM grp, reach)),
            placed AS (
                SELECT a.*, row_number() OVER (ORDER BY a.id) AS place,
                    count(*) FILTER (WHERE a.is_barrier) OVER (ORDER BY a.id) AS barriers,
                    row_number() OVER (PARTITION BY a.key_hash ORDER BY a.id) AS turn
                FROM ahead a),
            judged AS (
                SELECT p.id, p.size, p.key_hash, p.key_hash IS NULL OR p.turn = 1
                    AND (SELECT 1 FROM {t.deliveries} d
                        WHERE {mine} AND d.key_hash = p.key_hash AND d.status IN {_OUT} LIMIT 1) IS NULL
                    AND (SELECT 1 FROM {t.deliveries} d
                        WHERE {mine} AND d.key_hash = p.key_hash AND d.status = 'blocked' LIMIT 1) IS NULL AS is_head
                FROM placed p
                WHERE p.barriers = 0 OR p.is_barrier AND p.place = 1 AND NOT {cls._has_open(t)}),
            counted AS (
                SELECT j.*, count(*) FILTER (WHERE is_head) OVER (ORDER BY id) AS heads,
                    coalesce(sum(size) FILTER (WHERE is_head) OVER (ORDER BY id), 0) AS total
                FROM judged j),
            taken AS MATERIALIZED (
                SELECT c.* FROM counted c, room
                WHERE c.heads <= room.messages AND c.total - CASE WHEN c.is_head THEN c.size ELSE 0 END < room.bytes),
            fresh AS (
                INSERT INTO {t.deliveries} (stream, consumer_group, event_id, status, visible_at, attempts, consumer_id,
                    claim, key_hash, updated_at)
                SELECT $1, $2, id, CASE WHEN is_head THEN 'claimed' ELSE 'blocked' END,
                    CASE WHEN is_head THEN grp.until ELSE grp.now END, is_head::int,
                    CASE WHEN is_head THEN $5 ELSE '' END, CASE WHEN is_head THEN grp.claim ELSE 0 END, key_hash,
                    grp.now
                FROM taken, grp RETURNING event_id, attempts, status),
            stand AS (
                SELECT CASE
                    WHEN (SELECT count(*) FROM taken) = (SELECT count(*) FROM ahead)
                        AND (SELECT count(*) FROM ahead) < reach.messages THEN greatest(grp.last_id, grp.cursor_id)
                    ELSE coalesce((SELECT max(id) FROM taken), grp.cursor_id) END AS id
                FROM grp, reach),
            moved AS (
                UPDATE {t.groups} g SET cursor_id = stand.id FROM stand
                WHERE g.stream = $1 AND g.consumer_group = $2 AND g.cursor_id < stand.id)
            SELECT e.*, c.attempts, grp.claim, grp.until
            FROM (SELECT event_id, attempts FROM reclaimed
                UNION ALL SELECT event_id, attempts FROM fresh WHERE status = 'claimed'
                ORDER BY event_id) AS c
            CROSS JOIN LATERAL (
                SELECT id, namespace, table_name, operation, key, lsn::text, wire_format, payload, created_at
                FROM {t.events} WHERE stream = $1 AND id = c.event_id LIMIT 1) AS e
            CROSS JOIN grp
            ORDER BY c.event_id"""

    @staticmethod
    def _has_open(t: Tables) -> str:
        out, blocked = (
            f"EXISTS (SELECT FROM {t.deliveries} d WHERE d.stream = $1 AND d.consumer_group = $2 AND d.status {which})"
            for which in (f"IN {_OUT}", "= 'blocked'")
        )
        return f"({out} OR {blocked})"

    @staticmethod
    def _held(t: Tables, statuses: str) -> str:
        """``$3`` messages, ``$4`` claims or null, ``$5`` consumer: the rows that are the caller's, locked in order.

        Rows changed while waiting for a lock are judged by their newest version.
        """
        return f"""wanted AS MATERIALIZED (
                SELECT DISTINCT ON (w.event_id) w.event_id, w.claim
                FROM unnest($3::bigint[], coalesce($4::bigint[], array_fill(NULL::bigint, ARRAY[cardinality($3)])))
                    AS w(event_id, claim) ORDER BY w.event_id),
            held AS MATERIALIZED (
                SELECT h.event_id, h.status FROM wanted w CROSS JOIN LATERAL (
                    SELECT d.event_id, d.status FROM {t.deliveries} d
                    WHERE d.stream = $1 AND d.consumer_group = $2 AND d.event_id = w.event_id AND CASE
                        WHEN d.status NOT IN {statuses} THEN false
                        WHEN w.claim IS NOT NULL THEN d.claim = w.claim
                        WHEN $5 <> '' THEN d.consumer_id = $5 ELSE true END
                    LIMIT 1 FOR UPDATE) AS h)"""

    @staticmethod
    def _promoted(t: Tables) -> str:
        """The first blocked message of every key that ``finished`` set free.

        ``finished`` held the one message of each of its keys that was out, so nothing else of them is.
        """
        return f"""promoted AS (
                UPDATE {t.deliveries} d SET status = 'available', visible_at = statement_timestamp(),
                    updated_at = statement_timestamp()
                WHERE d.stream = $1 AND d.consumer_group = $2 AND d.event_id = ANY (ARRAY(
                    SELECT next.event_id
                    FROM (SELECT DISTINCT key_hash FROM finished WHERE key_hash IS NOT NULL) AS f
                    CROSS JOIN LATERAL (
                        SELECT b.event_id FROM {t.deliveries} b WHERE b.stream = $1 AND b.consumer_group = $2
                            AND b.status = 'blocked' AND b.key_hash = f.key_hash
                        ORDER BY b.event_id LIMIT 1) AS next))
                RETURNING 1)"""

    @staticmethod
    def _woken(cause: str) -> str:
        """Notifies once when ``cause`` has rows."""
        return f"""woken AS MATERIALIZED (
                SELECT pg_catalog.pg_notify('wallaby_streams', $1) FROM (SELECT FROM {cause} LIMIT 1) AS c)"""

    @staticmethod
    def _answer(*, wakes: bool = False) -> str:
        # A query in WITH that nothing reads is not run.
        source = " FROM (SELECT count(*) FROM woken) AS w" if wakes else ""
        return f"""SELECT (SELECT count(*) FROM held),
                ARRAY(SELECT event_id FROM wanted EXCEPT SELECT event_id FROM held ORDER BY 1){source}"""

    @staticmethod
    def _status(t: Tables) -> str:
        """``$2`` is a group or null for all of them; ``$3`` groups at most."""
        # One branch per partial index: acknowledged deliveries are never read.
        unfinished = " UNION ALL ".join(
            f"SELECT u.status, u.visible_at, u.event_id FROM {t.deliveries} u"
            f" WHERE u.stream = g.stream AND u.consumer_group = g.consumer_group AND u.status {which}"
            for which in (f"IN {_OUT}", "= 'blocked'", "= 'dead'")
        )
        return f"""
            SELECT g.consumer_group, g.is_ordered, g.max_attempts, s.last_id, g.cursor_id,
                greatest(s.last_id - greatest(g.cursor_id, coalesce(edge.first_id, s.last_id + 1) - 1), 0),
                o.claimed, o.available, o.blocked, o.dead,
                coalesce(s.total_bytes - next.before, 0)::bigint, oldest.created_at,
                coalesce(extract(epoch FROM statement_timestamp() - oldest.created_at), 0)::float8
            FROM {t.groups} g JOIN {t.streams} s USING (stream)
            CROSS JOIN LATERAL (SELECT min(e.id) AS first_id FROM {t.events} e WHERE e.stream = s.stream) AS edge
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE d.status = 'claimed' AND d.visible_at > statement_timestamp()) AS claimed,
                    count(*) FILTER (WHERE d.status = 'available'
                        OR d.status = 'claimed' AND d.visible_at <= statement_timestamp()) AS available,
                    count(*) FILTER (WHERE d.status = 'blocked') AS blocked,
                    count(*) FILTER (WHERE d.status = 'dead') AS dead,
                    min(d.event_id) FILTER (WHERE d.status IN ('available', 'claimed', 'blocked')) AS first_open
                FROM ({unfinished}) AS d) AS o
            LEFT JOIN LATERAL (
                SELECT e.id, e.total_bytes - octet_length(e.payload) AS before FROM {t.events} e
                WHERE e.stream = g.stream AND e.id > g.cursor_id ORDER BY e.id LIMIT 1) AS next ON true
            LEFT JOIN LATERAL (
                SELECT e.created_at FROM {t.events} e
                WHERE e.stream = g.stream AND e.id = least(o.first_open, next.id)) AS oldest ON true
            WHERE g.stream = $1 AND ($2::text IS NULL OR g.consumer_group = $2)
            ORDER BY g.consumer_group LIMIT $3"""

    @staticmethod
    def _retain_page(t: Tables) -> str:
        """``$2`` begin behind this message, ``$3`` messages. Rows: last message looked at, how many, whether one of
        them is too young to go, how many were removed."""
        return f"""
            WITH policy AS MATERIALIZED (SELECT * FROM {t.streams} WHERE stream = $1),
            page AS MATERIALIZED (
                SELECT e.id, coalesce(e.created_at <= statement_timestamp() - p.retention_age, false)
                    OR coalesce(e.total_bytes <= p.total_bytes - p.retention_bytes, false) AS is_old
                FROM {t.events} e, policy p WHERE e.stream = $1 AND e.id > $2 ORDER BY e.id LIMIT $3),
            doomed AS MATERIALIZED (
                SELECT page.id FROM page, policy p
                WHERE page.is_old AND (p.removes_unacked
                    OR page.id <= (SELECT min(g.cursor_id) FROM {t.groups} g WHERE g.stream = $1)
                    AND NOT EXISTS (
                        SELECT FROM {t.groups} g WHERE g.stream = $1 AND 'acked' IS DISTINCT FROM (
                            SELECT d.status FROM {t.deliveries} d
                            WHERE d.stream = $1 AND d.consumer_group = g.consumer_group AND d.event_id = page.id)))),
            dropped AS (
                DELETE FROM {t.deliveries} d WHERE d.stream = $1
                    AND d.consumer_group = ANY (ARRAY(SELECT consumer_group FROM {t.groups} WHERE stream = $1))
                    AND d.event_id = ANY (ARRAY(SELECT id FROM doomed))),
            removed AS (
                DELETE FROM {t.events} e WHERE e.stream = $1 AND e.id = ANY (ARRAY(SELECT id FROM doomed)) RETURNING 1)
            SELECT max(page.id), count(*), coalesce(bool_or(NOT is_old), false), (SELECT count(*) FROM removed)
            FROM page"""

"""What customers and clerks do in the shop: one function per kind of transaction, choices from a seeded ``Random``.

Each operation runs inside a transaction the caller opened and will commit, uses set-based statements, and returns the
rows it changed (rows changed by cascades are not counted). New keys come from counters that never repeat, so an
operation may fail half-way and another be tried on the same counters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import psycopg

from cluster.demo.shop import REGIONS, WAREHOUSES, ShopSize

WRITER_KEYS: Final = 1_000_000_000
"""Each writer of each run makes new keys in a range of its own, this many wide."""
RUN_WRITERS_MAX: Final = 64


class Undo(Exception):
    """Raised by an operation that wants its transaction rolled back: part of the workload, not a failure."""


@dataclass(slots=True)
class Desk:
    """One writer's place: its connection, its choices and its key counters."""

    connection: psycopg.Connection[Any]
    random: Random
    size: ShopSize
    first_key: int = WRITER_KEYS
    batch_max: int = 200
    made: dict[str, int] = field(default_factory=dict)

    def run(self, statement: str, **values: Any) -> int:
        """Execute; rows changed."""
        return max(0, self.connection.execute(statement, values).rowcount)

    def new_keys(self, kind: str, count: int) -> int:
        """The first of ``count`` never used keys of ``kind``."""
        first = self.made.get(kind, 0)
        self.made[kind] = first + count
        return self.first_key + first

    def some_keys(self, kind: str, seeded: int, count: int) -> tuple[int, int]:
        """A range of about ``count`` keys of ``kind`` that probably exist: half from the seed, half newly made."""
        made = self.made.get(kind, 0)
        base, limit = (self.first_key, made) if made and self.random.random() < 0.5 else (1, seeded)
        low = base + self.random.randrange(max(1, limit - count))
        return low, low + count - 1

    def some_orders(self, count: int) -> tuple[str, int, int]:
        """A region and a range of order ids in it."""
        low, high = self.some_keys("order", self.size.orders, count)
        return self.random.choice(REGIONS), low, high

    def some_sku(self) -> str:
        return f"SKU-{1 + self.random.randrange(self.size.products):06d}"

    def count(self) -> int:
        """A batch size: usually small, sometimes the largest."""
        return max(1, int(self.batch_max * self.random.random() ** 2))

    def salt(self) -> int:
        return self.random.randrange(1 << 40)


Operation = Callable[[Desk], int]


def place_orders(desk: Desk) -> int:
    """Orders with lines, reserved stock and an audit entry: four tables in one transaction."""
    count = desk.count()
    first, salt = desk.new_keys("order", count), desk.salt()
    region, customers, products = desk.random.choice(REGIONS), desk.size.customers, desk.size.products
    rows = desk.run(_INSERT_ORDERS, region=region, first=first, count=count, salt=salt, customers=customers)
    rows += desk.run(_INSERT_LINES, region=region, first=first, count=count, salt=salt, products=products)
    rows += desk.run(
        "UPDATE shop.inventory SET reserved = reserved + 1 WHERE warehouse = %(warehouse)s AND sku BETWEEN"
        " %(low)s AND %(high)s",
        warehouse=1 + salt % WAREHOUSES,
        low=(sku := desk.some_sku()),
        high=sku[:-1] + "9",
    )
    return rows + _audit(desk, "placed", copies=1)


def place_one_order(desk: Desk) -> int:
    """The same, one row per statement, as an application would."""
    first, salt = desk.new_keys("order", 1), desk.salt()
    values = {"region": desk.random.choice(REGIONS), "first": first, "count": 1, "salt": salt}
    rows = desk.run(_INSERT_ORDERS, **values, customers=desk.size.customers)
    return rows + desk.run(_INSERT_LINES, **values, products=desk.size.products)


def touch_customers(desk: Desk) -> int:
    """Updates that leave the large document alone: PostgreSQL sends it as "unchanged"."""
    low, high = desk.some_keys("customer", desk.size.customers, desk.count())
    return desk.run(
        "UPDATE shop.customers SET visits = visits + 1, tier = (enum_range(NULL::shop.customer_tier))[1 +"
        " (visits + 1) %% 4]"
        " WHERE id BETWEEN %(low)s AND %(high)s",
        low=low,
        high=high,
    )


def rewrite_profiles(desk: Desk) -> int:
    """Updates that replace the large document, make it small, or remove it."""
    low, high = desk.some_keys("customer", desk.size.customers, max(1, desk.count() // 4))
    return desk.run(
        "UPDATE shop.customers SET profile = CASE WHEN (id + %(salt)s::bigint) %% 13 = 0 THEN NULL ELSE"
        " jsonb_build_object('v', %(salt)s::bigint, 'history', repeat(md5((id + %(salt)s::bigint)::text),"
        " CASE WHEN id %% 4 = 0 THEN 1 ELSE 80 END)) END WHERE id BETWEEN %(low)s AND %(high)s",
        low=low,
        high=high,
        salt=desk.salt(),
    )


def retag_customers(desk: Desk) -> int:
    """Arrays, NULLs and unconstrained numerics change, then change again in the same transaction."""
    low, high = desk.some_keys("customer", desk.size.customers, desk.count())
    rows = desk.run(
        "UPDATE shop.customers SET tags = array_append(tags[1:3], %(tag)s) WHERE id BETWEEN %(low)s AND %(high)s",
        low=low,
        high=high,
        tag=desk.random.choice(["", 'quo"ted', "com,ma", "back\\slash", "NULL", " space ", "{}", None]),
    )
    return rows + desk.run(
        "UPDATE shop.customers SET credit = round(-credit * 1.10, (id %% 9)::int) %% 1e40 WHERE id BETWEEN"
        " %(low)s AND %(high)s",
        low=low,
        high=(low + high) // 2,
    )


def join_customers(desk: Desk) -> int:
    """New customers, most with a document that is stored out of line."""
    count = max(1, desk.count() // 2)
    first, salt = desk.new_keys("customer", count), desk.salt()
    return desk.run(
        "INSERT INTO shop.customers (id, email, tags, profile, credit, country, created_at)"
        " SELECT g, 'new' || g || '@example.org', ARRAY['new', 'salt ' || %(salt)s::bigint %% 7],"
        " jsonb_build_object('history', repeat(md5(g::text), 90), 'at', g), g %% 1000 / 8.0, 'NZ',"
        " timestamptz '2025-01-01 00:00+00' + (g %% 100000) * interval '1.000001 second'"
        " FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(count)s::bigint - 1) AS g",
        first=first,
        count=count,
        salt=salt,
    )


def leave_customers(desk: Desk) -> int:
    """Customers are deleted; their orders lose the reference (ON DELETE SET NULL)."""
    low, high = desk.some_keys("customer", desk.size.customers, 1 + desk.random.randrange(3))
    return desk.run("DELETE FROM shop.customers WHERE id BETWEEN %(low)s AND %(high)s", low=low, high=high)


def advance_orders(desk: Desk) -> int:
    """Orders move on: enum, date, time and interval change."""
    region, low, high = desk.some_orders(desk.count() * len(REGIONS))
    return desk.run(
        "UPDATE shop.orders SET status = (enum_range(NULL::shop.order_status))[1 + (id + %(salt)s::bigint) %% 5],"
        " total = total + 0.0001, ship_date = placed_at::date + (id %% 30)::int,"
        " pick_time = time '23:59:59.999999' - (id %% 1000) * interval '7.000003 seconds',"
        " eta = make_interval(months => (id %% 5)::int, hours => (%(salt)s::bigint %% 90)::int - 40),"
        " is_gift = NOT is_gift"
        " WHERE region = %(region)s AND id BETWEEN %(low)s AND %(high)s",
        region=region,
        low=low,
        high=high,
        salt=desk.salt(),
    )


def reprice_products(desk: Desk) -> int:
    """Floats, float arrays and money change."""
    sku = desk.some_sku()
    return desk.run(
        "UPDATE shop.products SET price = round(price * 1.01, 2) %% 10000000, weight = 0.1 - weight * 0.75,"
        " dims = dims[2:] || 0.1::real,"
        " fingerprint = sha256(fingerprint), updated_at = timestamptz '2025-06-01 00:00+00' + %(salt)s::bigint"
        " * interval '1 us'"
        " WHERE sku BETWEEN %(low)s AND %(high)s",
        low=sku,
        high=sku[:-1] + "9",
        salt=desk.salt(),
    )


def restock(desk: Desk) -> int:
    """INSERT … ON CONFLICT DO UPDATE: a statement whose rows are partly inserts, partly updates."""
    count = max(1, desk.count() // 2)
    return desk.run(
        "INSERT INTO shop.inventory (warehouse, sku, stock, counted_at)"
        " SELECT 1 + %(salt)s::bigint %% 9, 'SKU-' || lpad(g::text, 6, '0'), g %% 500, timestamp '2025-01-01' +"
        " g * interval '1 min'"
        " FROM generate_series(%(low)s::bigint, %(low)s::bigint + %(count)s::bigint - 1) AS g"
        " ON CONFLICT (warehouse, sku) DO UPDATE SET stock = inventory.stock + excluded.stock, counted_at ="
        " excluded.counted_at",
        low=1 + desk.random.randrange(desk.size.products),
        count=count,
        salt=desk.salt(),
    )


def cancel_orders(desk: Desk) -> int:
    """Orders are deleted, their lines by cascade."""
    region, low, high = desk.some_orders(desk.count())
    return desk.run(_DELETE_ORDERS, region=region, low=low, high=high)


def move_orders(desk: Desk) -> int:
    """Key change: orders move to another region under new ids; the lines' keys follow by cascade."""
    region, low, high = desk.some_orders(max(1, desk.count() // 2))
    target = desk.random.choice([other for other in REGIONS if other != region])
    first = desk.new_keys("order", high - low + 1)
    return desk.run(
        "UPDATE shop.orders SET region = %(target)s, id = id - %(low)s::bigint + %(first)s::bigint"
        " WHERE region = %(region)s AND id BETWEEN %(low)s AND %(high)s",
        region=region,
        target=target,
        low=low,
        high=high,
        first=first,
    )


def swap_orders(desk: Desk) -> int:
    """Two orders exchange their keys by way of a temporary one, in one transaction."""
    region, low, high = desk.some_orders(2 * len(REGIONS))
    temporary = -desk.new_keys("temporary", 1)
    chosen = desk.connection.execute(
        "SELECT id FROM shop.orders WHERE region = %(region)s AND id BETWEEN %(low)s AND %(high)s ORDER BY id"
        " LIMIT 2 FOR UPDATE",
        {"region": region, "low": low, "high": high},
    ).fetchall()
    if len(chosen) < 2:
        return 0
    (one,), (other,) = chosen
    moves = ((one, temporary), (other, one), (temporary, other))
    return sum(
        desk.run(
            "UPDATE shop.orders SET id = %(to)s WHERE region = %(region)s AND id = %(at)s", region=region, at=at, to=to
        )
        for at, to in moves
    )


def swap_products(desk: Desk) -> int:
    """Two products exchange their text keys."""
    one, other = sorted((desk.some_sku(), desk.some_sku()))
    if one == other:
        return 0
    temporary = f"TMP-{desk.new_keys('temporary', 1)}"
    desk.connection.execute(
        "SELECT 1 FROM shop.products WHERE sku = ANY(%(both)s) ORDER BY sku FOR UPDATE", {"both": [one, other]}
    )
    moves = ((one, temporary), (other, one), (temporary, other))
    return sum(desk.run("UPDATE shop.products SET sku = %(to)s WHERE sku = %(at)s", at=at, to=to) for at, to in moves)


def renumber_lines(desk: Desk) -> int:
    """Every line of some orders gets a new key in one statement; half of the time it gets the old one back at once."""
    region, low, high = desk.some_orders(desk.count())
    statement = (
        "UPDATE shop.order_lines SET line = -line, qty = qty %% 20 + 1"
        " WHERE order_region = %(region)s AND order_id BETWEEN %(low)s AND %(high)s"
    )
    times = 1 + desk.random.randrange(2)
    return sum(desk.run(statement, region=region, low=low, high=high) for _ in range(times))


def replace_orders(desk: Desk) -> int:
    """Rows are deleted and inserted again under the same keys in one transaction."""
    region, low, high = desk.some_orders(desk.count())
    return desk.run(_DELETE_ORDERS, region=region, low=low, high=high) + desk.run(
        _INSERT_ORDERS, region=region, first=low, count=high - low + 1, salt=desk.salt(), customers=desk.size.customers
    )


def place_and_cancel(desk: Desk) -> int:
    """Rows that are gone before anybody could see them: insert, update and delete in one transaction."""
    count = max(1, desk.count() // 4)
    first, region = desk.new_keys("order", count), desk.random.choice(REGIONS)
    rows = desk.run(
        _INSERT_ORDERS, region=region, first=first, count=count, salt=desk.salt(), customers=desk.size.customers
    )
    placed = {"region": region, "low": first, "high": first + count - 1}
    rows += desk.run(
        "UPDATE shop.orders SET notes = NULL WHERE region = %(region)s AND id BETWEEN %(low)s AND %(high)s", **placed
    )
    return rows + desk.run(_DELETE_ORDERS, **placed)


def keep_audit(desk: Desk) -> int:
    """The table without a key: equal rows are added, one of several equal rows is removed, some are changed."""
    rows = _audit(desk, "noted", copies=3)
    low, high = desk.some_keys("audit", max(1, desk.size.orders // 20), 5)
    if desk.random.random() < 0.5:
        rows += desk.run(
            "DELETE FROM shop.audit_log WHERE ctid IN (SELECT min(ctid) FROM shop.audit_log"
            " WHERE entry BETWEEN %(low)s AND %(high)s GROUP BY entry, action)",
            low=low,
            high=high,
        )
    return rows + desk.run(
        "UPDATE shop.audit_log SET action = 'reviewed', ratio = 1 - ratio / 7 WHERE entry = %(entry)s AND entry"
        " %% 2 = 0",
        entry=high,
    )


def stage_inventory(desk: Desk) -> int:
    """The staging table is filled and merged; now and then it is truncated, in the same transaction or first."""
    rows, choice = 0, desk.random.random()
    if choice < 0.2:
        desk.run("TRUNCATE shop.inventory_staging")
    count = max(1, desk.count() // 4)
    rows += desk.run(
        "INSERT INTO shop.inventory_staging (id, warehouse, sku, stock) SELECT g, 1 + g %% 9, %(sku)s || '/' ||"
        " g %% 5, g %% 100"
        " FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(count)s::bigint - 1) AS g",
        first=desk.new_keys("staging", count),
        count=count,
        sku=desk.some_sku(),
    )
    rows += desk.run(
        "INSERT INTO shop.inventory (warehouse, sku, stock)"
        " SELECT warehouse, sku, sum(stock) FROM shop.inventory_staging GROUP BY warehouse, sku ORDER BY warehouse, sku"
        " ON CONFLICT (warehouse, sku) DO UPDATE SET stock = excluded.stock"
    )
    if choice > 0.9:
        desk.run("TRUNCATE shop.inventory_staging")
        rows += desk.run(
            "INSERT INTO shop.inventory_staging VALUES (%(id)s, 1, 'after the truncate', 1)",
            id=desk.new_keys("staging", 1),
        )
    return rows


def change_their_mind(desk: Desk) -> int:
    """A transaction that writes to several tables and is rolled back."""
    place_orders(desk)
    touch_customers(desk)
    raise Undo


def change_half_their_mind(desk: Desk) -> int:
    """Savepoints: one is rolled back, one nested in it released, one kept."""
    rows = place_one_order(desk)
    with desk.connection.transaction(force_rollback=True):
        cancel_orders(desk)
        with desk.connection.transaction():
            touch_customers(desk)
    with desk.connection.transaction():
        rows += advance_orders(desk)
    return rows


def take_stock(desk: Desk) -> int:
    """One large transaction: every row of a warehouse, then every customer of a country."""
    rows = desk.run(
        "UPDATE shop.inventory SET stock = stock + 1, counted_at = timestamp '2025-02-03 04:05:06.7' WHERE"
        " warehouse = %(w)s",
        w=1 + desk.random.randrange(WAREHOUSES),
    )
    return rows + desk.run("UPDATE shop.customers SET visits = visits + 10 WHERE country = 'DE'")


OPERATIONS: Final[tuple[tuple[Operation, int], ...]] = (
    (place_orders, 30),
    (place_one_order, 20),
    (touch_customers, 14),
    (rewrite_profiles, 5),
    (retag_customers, 4),
    (join_customers, 4),
    (leave_customers, 2),
    (advance_orders, 14),
    (reprice_products, 5),
    (restock, 6),
    (cancel_orders, 6),
    (move_orders, 4),
    (swap_orders, 3),
    (swap_products, 2),
    (renumber_lines, 3),
    (replace_orders, 3),
    (place_and_cancel, 2),
    (keep_audit, 6),
    (stage_inventory, 3),
    (change_their_mind, 4),
    (change_half_their_mind, 4),
    (take_stock, 1),
)
"""Each kind of transaction and how often it happens, relative to the others."""


def _audit(desk: Desk, action: str, *, copies: int) -> int:
    return desk.run(
        "INSERT INTO shop.audit_log (entry, at, actor, action, detail, ratio)"
        " SELECT %(entry)s::bigint, timestamptz '2025-01-01 00:00+00' + %(entry)s::bigint %% 1000000 * interval"
        " '1 second',"
        " 'clerk', %(action)s, jsonb_build_object('action', %(action)s::text), %(entry)s::bigint %% 1000 / 3.0"
        " FROM generate_series(1, %(copies)s)",
        entry=desk.new_keys("audit", 1),
        action=action,
        copies=copies,
    )


_INSERT_ORDERS: Final = """
INSERT INTO shop.orders (region, id, customer_id, status, total, placed_at, notes, is_gift, eta)
SELECT %(region)s, g, c.id, 'placed', (hashint8extended(g, %(salt)s::bigint) %% 100000000)::numeric / 10000,
       timestamptz '2025-01-01 00:00+00' + (g %% 1000000000) * interval '1.000007 seconds',
       CASE g %% 5 WHEN 0 THEN NULL ELSE 'line one' || chr(10) || 'line two of ' || g END, g %% 9 = 0,
       interval '1 month 2 days 03:04:05.678901' * (g %% 3)
FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(count)s::bigint - 1) AS g
LEFT JOIN shop.customers AS c ON c.id = 1 + (g + %(salt)s::bigint) %% %(customers)s::bigint
ON CONFLICT DO NOTHING
"""

_INSERT_LINES: Final = """
INSERT INTO shop.order_lines (order_region, order_id, line, sku, qty, amount)
SELECT %(region)s, g, l, 'SKU-' || lpad((1 + (g * 7 + l + %(salt)s::bigint) %% %(products)s::bigint)::text, 6, '0'),
       1 + (g + l) %% 20, (g %% 100000) * l / 16.0
FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(count)s::bigint - 1) AS g,
     generate_series(1, 1 + g %% 4) AS l
"""

_DELETE_ORDERS: Final = "DELETE FROM shop.orders WHERE region = %(region)s AND id BETWEEN %(low)s AND %(high)s"

"""A small shop in PostgreSQL: the source of the demonstration and of many tests.

The tables are chosen for what they make a change stream do, not for what a shop needs:

=====================  ============================================================================================
``customers``          bigint key; a jsonb document stored out of line, so an UPDATE that leaves it alone sends
                       "unchanged" instead of a value; an enum; a text array with quotes, commas, nulls
``products``           text key that changes now and then; numeric, float8, real[], uuid, bytea
``orders``             composite key (region, id) that moves and swaps; date, time, interval, numeric, enum, bool
``order_lines``        key of three columns, changed by cascades from ``orders``
``inventory``          key (warehouse, sku), mostly upserts; timestamp without time zone
``inventory_staging``  truncated now and then
``audit_log``          no key, replica identity full, equal rows may repeat
=====================  ============================================================================================

Every value is a function of the row number and the seed (``hashint8extended``), never of the clock: the same seed gives
the same content on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from wallaby.schema import TableName

SCHEMA: Final = "shop"
REGIONS: Final = ("eu", "us", "ap", "sa")
WAREHOUSES: Final = 4

TABLES: Final = tuple(
    TableName(SCHEMA, name)
    for name in (
        "audit_log",
        "customers",
        "inventory",
        "inventory_staging",
        "order_lines",
        "orders",
        "products",
    )
)
"""What the publication holds, sorted by name."""


@dataclass(frozen=True, slots=True)
class ShopSize:
    """How many rows of each kind a shop of some size starts with."""

    customers: int
    products: int
    orders: int

    @classmethod
    def of(cls, rows: int) -> ShopSize:
        """A shop of about ``rows`` rows over all tables, and never an empty one."""
        orders = max(len(REGIONS), rows // 5)
        return cls(customers=max(8, orders // 4), products=max(8, orders // 10), orders=orders)


def create(connection: psycopg.Connection[Any]) -> None:
    """Create schema ``shop`` with its types and empty tables. Fails when the schema exists. Commits nothing itself."""
    connection.execute(_DDL)


def drop(connection: psycopg.Connection[Any]) -> None:
    """Remove schema ``shop`` and all in it, when present."""
    connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def seed(connection: psycopg.Connection[Any], rows: int, seed: int) -> ShopSize:
    """Fill the empty tables with about ``rows`` rows, one statement per table. Deterministic under ``seed``."""
    size = ShopSize.of(rows)
    numbers = {"seed": seed, "customers": size.customers, "products": size.products, "orders": size.orders}
    for statement in (_CUSTOMERS, _PRODUCTS, _ORDERS, _ORDER_LINES, _INVENTORY, _INVENTORY_STAGING, _AUDIT_LOG):
        connection.execute(statement, numbers)
    return size


_DDL: Final = """
CREATE SCHEMA shop;

CREATE TYPE shop.customer_tier AS ENUM ('bronze', 'silver', 'gold', 'Très spécial');
CREATE TYPE shop.order_status AS ENUM ('placed', 'paid', 'packed', 'shipped', 'returned');

CREATE TABLE shop.customers (
    id          bigint PRIMARY KEY,
    email       text NOT NULL,
    tier        shop.customer_tier NOT NULL DEFAULT 'bronze',
    tags        text[],
    profile     jsonb,
    visits      integer NOT NULL DEFAULT 0,
    credit      numeric,
    country     char(2),
    created_at  timestamptz NOT NULL
);
ALTER TABLE shop.customers ALTER COLUMN profile SET STORAGE EXTERNAL;

CREATE TABLE shop.products (
    sku          text PRIMARY KEY,
    title        varchar(120) NOT NULL,
    price        numeric(12, 2) NOT NULL,
    weight       float8,
    dims         real[],
    public_id    uuid NOT NULL,
    fingerprint  bytea,
    updated_at   timestamptz
);

CREATE TABLE shop.orders (
    region       text NOT NULL,
    id           bigint NOT NULL,
    customer_id  bigint REFERENCES shop.customers (id) ON DELETE SET NULL,
    status       shop.order_status NOT NULL,
    total        numeric(14, 4) NOT NULL,
    placed_at    timestamptz NOT NULL,
    notes        text,
    is_gift      bool,
    ship_date    date,
    pick_time    time,
    eta          interval,
    PRIMARY KEY (region, id)
);
CREATE INDEX ON shop.orders (customer_id);

CREATE TABLE shop.order_lines (
    order_region  text NOT NULL,
    order_id      bigint NOT NULL,
    line          integer NOT NULL,
    sku           text NOT NULL,
    qty           smallint NOT NULL,
    amount        numeric(14, 4),
    PRIMARY KEY (order_region, order_id, line),
    FOREIGN KEY (order_region, order_id) REFERENCES shop.orders (region, id) ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE TABLE shop.inventory (
    warehouse   smallint NOT NULL,
    sku         text NOT NULL,
    stock       integer NOT NULL,
    reserved    integer NOT NULL DEFAULT 0,
    counted_at  timestamp,
    PRIMARY KEY (warehouse, sku)
);

CREATE TABLE shop.inventory_staging (
    id         bigint PRIMARY KEY,
    warehouse  smallint NOT NULL,
    sku        text NOT NULL,
    stock      integer NOT NULL
);

CREATE TABLE shop.audit_log (
    entry    bigint NOT NULL,
    at       timestamptz NOT NULL,
    actor    text,
    action   text NOT NULL,
    detail   jsonb,
    ratio    real
);
CREATE INDEX ON shop.audit_log (entry);
ALTER TABLE shop.audit_log REPLICA IDENTITY FULL;
"""


def _hash(number: str, salt: int) -> str:
    """SQL for a non-negative bigint that depends on ``number``, the seed and ``salt``."""
    return f"(hashint8extended(({number})::bigint, %(seed)s::bigint * 64 + {salt}) & 4611686018427387903)"


_EPOCH: Final = "timestamptz '2024-03-01 00:00:00+00'"

_CUSTOMERS: Final = f"""
INSERT INTO shop.customers (id, email, tier, tags, profile, visits, credit, country, created_at)
SELECT g,
       'customer' || g || '@example.org',
       (enum_range(NULL::shop.customer_tier))[1 + {_hash("g", 1)} %% 4],
       CASE {_hash("g", 2)} %% 6
            WHEN 0 THEN NULL
            WHEN 1 THEN '{{}}'
            WHEN 2 THEN ARRAY['new', NULL, '', 'NULL']
            WHEN 3 THEN ARRAY['says "hi"', 'a,b', 'back\\slash', '{{curly}}', 'Zürich ☕']
            ELSE ARRAY['segment ' || {_hash("g", 3)} %% 9, 'wave' || g %% 5]
       END,
       CASE WHEN g %% 17 = 0 THEN NULL ELSE jsonb_build_object(
            'score', ({_hash("g", 4)} %% 100000)::numeric / 1000,
            'name', 'Customer № ' || g,
            'newsletter', g %% 3 = 0,
            'history', repeat(md5({_hash("g", 5)}::text), CASE WHEN g %% 3 = 0 THEN 2 ELSE 75 + g::int %% 40 END))
       END,
       {_hash("g", 6)} %% 50,
       CASE WHEN g %% 11 = 0 THEN NULL
            ELSE ({_hash("g", 7)} %% 1000000000)::numeric / (10 ^ (g %% 7))::numeric - 5000 END,
       (ARRAY['DE', 'FR', 'US', 'NZ', NULL])[1 + g %% 5],
       {_EPOCH} + ({_hash("g", 8)} %% 31536000000000) * interval '1 microsecond'
FROM generate_series(1, %(customers)s) AS g
"""

_PRODUCTS: Final = f"""
INSERT INTO shop.products (sku, title, price, weight, dims, public_id, fingerprint, updated_at)
SELECT 'SKU-' || lpad(g::text, 6, '0'),
       'Product ' || g || CASE WHEN g %% 9 = 0 THEN E' with a\\ttab and a\\nnewline' ELSE '' END,
       ({_hash("g", 11)} %% 1000000)::numeric / 100,
       CASE g %% 8 WHEN 0 THEN NULL WHEN 1 THEN 1e-7 * g WHEN 2 THEN 1e20 * g WHEN 3 THEN '-0'::float8
            ELSE ({_hash("g", 12)} %% 100000) / 7.0::float8 END,
       CASE WHEN g %% 10 = 0 THEN NULL WHEN g %% 10 = 1 THEN '{{}}'
            ELSE ARRAY[g / 3.0, ({_hash("g", 13)} %% 1000) / 10.0, NULL, 100000 * g]::real[] END,
       md5('product' || {_hash("g", 14)})::uuid,
       CASE WHEN g %% 6 = 0 THEN NULL WHEN g %% 6 = 1 THEN ''::bytea
            ELSE decode(md5({_hash("g", 15)}::text), 'hex') END,
       CASE WHEN g %% 5 = 0 THEN NULL ELSE {_EPOCH} + ({_hash("g", 16)} %% 31536000) * interval '1 second' END
FROM generate_series(1, %(products)s) AS g
"""

_ORDERS: Final = f"""
INSERT INTO shop.orders (region, id, customer_id, status, total, placed_at, notes, is_gift, ship_date, pick_time, eta)
SELECT (ARRAY['eu', 'us', 'ap', 'sa'])[1 + g %% {len(REGIONS)}],
       g,
       CASE WHEN g %% 19 = 0 THEN NULL ELSE 1 + {_hash("g", 21)} %% %(customers)s END,
       (enum_range(NULL::shop.order_status))[1 + {_hash("g", 22)} %% 5],
       ({_hash("g", 23)} %% 100000000)::numeric / 10000 - 100,
       {_EPOCH} + ({_hash("g", 24)} %% 31536000000000) * interval '1 microsecond',
       CASE g %% 7 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'note "' || g || '", \\ and émoji 🦘' END,
       CASE g %% 5 WHEN 0 THEN NULL ELSE g %% 2 = 0 END,
       CASE WHEN g %% 4 = 0 THEN NULL ELSE date '2024-03-01' + ({_hash("g", 25)} %% 700)::int END,
       CASE WHEN g %% 6 = 0 THEN NULL
            ELSE time '00:00' + ({_hash("g", 26)} %% 86400000000) * interval '1 microsecond' END,
       CASE WHEN g %% 8 = 0 THEN NULL ELSE make_interval(
            months => (g %% 14)::int - 2, days => (g %% 40)::int - 5,
            secs => ({_hash("g", 27)} %% 200000)::int - 50000) END
FROM generate_series(1, %(orders)s) AS g
"""

_ORDER_LINES: Final = f"""
INSERT INTO shop.order_lines (order_region, order_id, line, sku, qty, amount)
SELECT o.region, o.id, l,
       'SKU-' || lpad((1 + {_hash("o.id * 8 + l", 31)} %% %(products)s)::text, 6, '0'),
       1 + {_hash("o.id * 8 + l", 32)} %% 20,
       CASE WHEN (o.id + l) %% 23 = 0 THEN NULL ELSE ({_hash("o.id * 8 + l", 33)} %% 9000000)::numeric / 10000 END
FROM shop.orders AS o, generate_series(1, 1 + (o.id %% 5)::int) AS l
"""

_INVENTORY: Final = f"""
INSERT INTO shop.inventory (warehouse, sku, stock, reserved, counted_at)
SELECT w, p.sku, {_hash("row_number() OVER (ORDER BY p.sku, w)", 41)} %% 1000, 0,
       CASE WHEN w = 2 THEN NULL ELSE timestamp '2024-03-01' + w * interval '1 hour 2 minutes 3.000004 seconds' END
FROM shop.products AS p, generate_series(1, {WAREHOUSES}) AS w
"""

_INVENTORY_STAGING: Final = f"""
INSERT INTO shop.inventory_staging (id, warehouse, sku, stock)
SELECT g, 1 + g %% {WAREHOUSES}, 'SKU-' || lpad(g::text, 6, '0'), {_hash("g", 51)} %% 1000
FROM generate_series(1, least(100, %(products)s)) AS g
"""

_AUDIT_LOG: Final = f"""
INSERT INTO shop.audit_log (entry, at, actor, action, detail, ratio)
SELECT g / 2, {_EPOCH} + (g / 2) * interval '1 second', CASE WHEN g %% 6 < 2 THEN NULL ELSE 'clerk' || g / 2 %% 7 END,
       'opened', jsonb_build_object('entry', g / 2, 'seed', {_hash("g / 2", 61)} %% 1000), (g / 2) / 3.0
FROM generate_series(1, greatest(8, %(orders)s / 10)) AS g
"""

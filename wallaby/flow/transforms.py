"""Options of what is done to rows before any destination writes them; each destination of a flow has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, field_validator

from wallaby.flow.expressions import ColumnRule, RowRule, split_expressions
from wallaby.flow.masks import KEYED, SECRET_CHARACTERS_MIN, MaskRule
from wallaby.flow.model import OptionsModel
from wallaby.flow.patterns import ColumnGlob, TableGlob, assignment, checked_template, duplicates, parse_table_name
from wallaby.flow.problems import InvalidFlow, Problem
from wallaby.flow.tables import split_list
from wallaby.secret import is_reference
from wallaby.sink import WriteMode
from wallaby.switch import switched
from wallaby.versions import NAME_BYTES_MAX

RESERVED: Final = frozenset(
    {"__op", "__ts", "__schema_version", "__table", "__namespace", "__key", "__before_json"}
    | {"__commit_lsn", "__ordinal", "__xid", "__committed_at", "__unchanged", "__outliers"}
)
"""Names a metadata column must not have: the Go WALlaby's own, and those of an append log."""
OFF: Final = "-"
"""A metadata column of this name is left out."""


class Watermark(StrEnum):
    """What the watermark column holds."""

    TIMESTAMP = "timestamp"
    """The commit time on the source."""
    LSN = "lsn"
    """The commit LSN, as PostgreSQL prints it."""
    NONE = "none"
    """There is no such column (``disabled`` is the same)."""


def _watermark(value: Any) -> Any:
    text = value.strip().lower() if isinstance(value, str) else value
    return "none" if text in ("disabled", False) else text


class TransformOptions(OptionsModel):
    """What is done to rows on their way to this destination, whatever its type; see the page on transforms."""

    meta_enabled: bool | None = None
    """Add metadata columns. Any option ``meta_…``, ``watermark_source``, ``soft_delete`` or ``append_mode`` turns it on
    as well."""
    meta_synced_at: str = "__ds_synced_at"
    """Name of the column with the commit time on the source (``timestamptz``). As every name here: ``-`` leaves it
    out."""
    meta_deleted: str = "__ds_is_deleted"
    """Name of the column that is true in the row of a deletion (``bool``)."""
    meta_op: str = "__ds_op"
    """Name of the column with ``insert``, ``update``, ``delete`` or ``load`` (``text``); null but in a log."""
    meta_watermark: str = "__ds_watermark"
    """Name of the column with the watermark, see ``watermark_source``."""
    meta_commit_lsn: str = OFF
    """Name of a column with the commit LSN as PostgreSQL prints it (``text``); off by default."""
    meta_position: str = OFF
    """Name of a column whose text order is stream order (``text``, fixed width); off by default."""
    watermark_source: Annotated[Watermark, BeforeValidator(_watermark)] = Watermark.TIMESTAMP
    """``timestamp`` (default, ``timestamptz``), ``lsn`` (``text``) or ``none``."""
    soft_delete: bool = False
    """In a mirror, a deleted row stays and is marked in the column of ``meta_deleted``."""
    append_mode: bool = False
    """``write_mode: append`` with metadata columns."""

    include_tables: tuple[str, ...] = ()
    """Tables that go to this destination (``shop.orders``, ``shop.order_*``, ``shop.*``); default: all of the flow."""
    exclude_tables: tuple[str, ...] = ()
    """Tables that do not, also of those included."""
    include_columns: tuple[str, ...] = ()
    """Columns that go there (``shop.orders.note``, ``shop.*.id``, ``id``), of tables that any entry is about; others go
    whole."""
    exclude_columns: tuple[str, ...] = ()
    """Columns that do not. A mirror needs those of the key."""
    rename_schema: str = "{schema}"
    """The schema's name there: a template such as ``raw_{schema}``."""
    rename_table: str = "{table}"
    """The table's name there: a template such as ``{schema}__{table}``."""
    rename_tables: tuple[str, ...] = ()
    """Single tables, whatever the templates say: ``shop.orders = sales.order_facts``."""
    rename_columns: tuple[str, ...] = ()
    """Columns: ``shop.orders.id = order_id``, or by template ``*.*.* = {column}_raw``. The first that fits counts."""

    mask_columns: tuple[str, ...] = ()
    """Columns whose values are hidden: ``shop.users.email = hmac``, or ``hash``, ``token``, ``redact``, or
    ``redact: TEXT``. The first that fits counts."""
    mask_secret: str = ""
    """The key of ``hmac`` and ``token``, 16 characters or more: ``env:NAME``, ``file:PATH`` or ``secret:NAME``."""

    reveal_columns: tuple[str, ...] = ()
    """Columns that may be seen though a rename at the source took them from a rule that hid them: ``shop.users.mail``,
    or of a whole table, its rows as well, ``shop.people.*``. Otherwise such a rename stops the flow."""

    where: tuple[str, ...] = ()
    """The rows of some tables that go to this destination: ``shop.orders: total > 0``, SQL over the new row."""
    computed_columns: tuple[str, ...] = ()
    """Columns the source does not have: ``shop.orders.gross = net * 1.19``, SQL over the row."""

    @property
    def row_rules(self) -> tuple[RowRule, ...]:
        """``where``, read."""
        return tuple(map(RowRule.parse, self.where))

    @property
    def column_rules(self) -> tuple[ColumnRule, ...]:
        """``computed_columns``, read."""
        return tuple(map(ColumnRule.parse, self.computed_columns))

    @property
    def mask_rules(self) -> tuple[MaskRule, ...]:
        """``mask_columns``, read."""
        return tuple(map(MaskRule.parse, self.mask_columns))

    @property
    def has_metadata(self) -> bool:
        """Rows get metadata columns."""
        if self.meta_enabled is not None and not self.soft_delete:
            return self.meta_enabled
        return bool(self.soft_delete or self.append_mode or self.model_fields_set & _METADATA)

    @property
    def is_nothing(self) -> bool:
        """Rows are written as they come."""
        return not self.has_metadata and not self.model_fields_set & _RULES

    @field_validator("include_tables", "exclude_tables", mode="before")
    @classmethod
    def _table_globs(cls, value: Any) -> tuple[str, ...]:
        return _each(value, TableGlob.parse)

    @field_validator("include_columns", "exclude_columns", "reveal_columns", mode="before")
    @classmethod
    def _column_globs(cls, value: Any) -> tuple[str, ...]:
        return _each(value, ColumnGlob.parse)

    @field_validator("rename_schema")
    @classmethod
    def _schema_template(cls, value: str) -> str:
        return checked_template(value, "schema")

    @field_validator("rename_table")
    @classmethod
    def _table_template(cls, value: str) -> str:
        return checked_template(value, "schema", "table")

    @field_validator("rename_tables", mode="before")
    @classmethod
    def _table_renames(cls, value: Any) -> tuple[str, ...]:
        items = _each(value, lambda text: list(map(parse_table_name, assignment(text))))
        names = [list(map(parse_table_name, assignment(text))) for text in items]
        for side in (0, 1):
            for name in duplicates([str(pair[side]) for pair in names]):
                raise ValueError(f"{name} stands {'before' if side == 0 else 'behind'} more than one =")
        return items

    @field_validator("rename_columns", mode="before")
    @classmethod
    def _column_renames(cls, value: Any) -> tuple[str, ...]:
        def check(text: str) -> None:
            pattern, template = assignment(text)
            ColumnGlob.parse(pattern)
            checked_template(template, "column")

        return _each(value, check)

    @field_validator("mask_columns", mode="before")
    @classmethod
    def _masks(cls, value: Any) -> tuple[str, ...]:
        return _each(value, MaskRule.parse)

    @field_validator("where", mode="before")
    @classmethod
    def _predicates(cls, value: Any) -> tuple[str, ...]:
        items = split_expressions(value)
        for item in items:
            RowRule.parse(item)
        return items

    @field_validator("computed_columns", mode="before")
    @classmethod
    def _computed(cls, value: Any) -> tuple[str, ...]:
        items = split_expressions(value)
        for item in items:
            ColumnRule.parse(item)
        return items

    @classmethod
    def of(cls, options: Mapping[str, Any], *, mode: WriteMode) -> Self:
        """Those of a destination's ``options``; its other keys are not looked at. `InvalidFlow` as from ``parse``."""
        parsed = cls.parse({name: value for name, value in options.items() if name in TRANSFORM_NAMES})
        problems = parsed.problems(mode=mode)
        if problems:
            raise InvalidFlow(problems, what="options")
        return parsed

    def problems(self, *, mode: WriteMode) -> list[Problem]:
        """What does not go together."""
        found = []
        if self.append_mode and mode is not WriteMode.APPEND:
            found.append(Problem("append_mode", "contradicts write_mode", "Leave write_mode out, or write append"))
        if self.soft_delete and mode is not WriteMode.MIRROR:
            found.append(
                Problem(
                    "soft_delete",
                    "belongs to a mirror",
                    "Leave it out: a log or a history tells every deletion already",
                )
            )
        if self.soft_delete and self.where:
            found.append(
                Problem(
                    "soft_delete",
                    "does not go with where: a row that never was in the destination cannot be marked there",
                    "Leave one of them out, or write a log with append_mode",
                )
            )
        if self.meta_enabled is False and self.soft_delete:
            found.append(Problem("meta_enabled", "must not be false with soft_delete", "Leave it out"))
        if self.soft_delete and self.meta_deleted == OFF:
            found.append(Problem("meta_deleted", "must be a name with soft_delete: the mark needs a column"))
        if any(rule.kind in KEYED for rule in self.mask_rules):
            if not self.mask_secret:
                found.append(Problem("mask_secret", "is required by hmac and token", "Write env:NAME or file:PATH"))
            elif not is_reference(self.mask_secret) and len(self.mask_secret) < SECRET_CHARACTERS_MIN:
                found.append(Problem("mask_secret", f"must have at least {SECRET_CHARACTERS_MIN} characters"))
        return found + self._name_problems()

    def _name_problems(self) -> list[Problem]:
        found: list[Problem] = []
        seen: dict[str, str] = {}
        for field in NAME_FIELDS:
            name = getattr(self, field)
            if name == OFF:
                continue
            if name in RESERVED:
                found.append(Problem(field, f"must not be {name}, which is reserved"))
            elif len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
                found.append(Problem(field, f"must have at most {NAME_BYTES_MAX} bytes"))
            elif name in seen:
                found.append(Problem(field, f"is the name of {seen[name]} too"))
            seen.setdefault(name, field)
        return found


NAME_FIELDS: Final = (
    "meta_synced_at",
    "meta_deleted",
    "meta_op",
    "meta_watermark",
    "meta_commit_lsn",
    "meta_position",
)
"""Fields that name a metadata column, in the order of the columns."""
_METADATA: Final = frozenset((*NAME_FIELDS, "watermark_source"))
_RULES: Final = frozenset(
    {
        *("include_tables", "exclude_tables", "include_columns", "exclude_columns"),
        *("rename_schema", "rename_table", "rename_tables", "rename_columns"),
        *("mask_columns", "where", "computed_columns"),
    }
)
TRANSFORM_NAMES: Final = frozenset(TransformOptions.option_names())
"""Option names of a destination that belong to the transforms."""


def write_mode(options: Mapping[str, Any], modes: Iterable[WriteMode] = frozenset(WriteMode)) -> WriteMode:
    """The mode a destination with these ``options`` writes in, of those its type has; a mirror by default."""
    given = options.get("write_mode")
    word = given.strip().lower() if isinstance(given, str) else given
    if not word:
        is_log = switched(options.get("append_mode")) or set(modes) == {WriteMode.APPEND}
        return WriteMode.APPEND if is_log else WriteMode.MIRROR
    return next((mode for mode in WriteMode if mode.value == word), WriteMode.MIRROR)


def sink_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options a sink gets: all that do not belong to the transforms, and the mode that ``append_mode`` means."""
    rest = {name: value for name, value in options.items() if name not in TRANSFORM_NAMES}
    if switched(options.get("append_mode")) and not rest.get("write_mode"):
        rest["write_mode"] = WriteMode.APPEND.value
    return rest


def _each(value: Any, check: Callable[[str], object]) -> tuple[str, ...]:
    items = split_list(value)
    for item in items:
        check(item)
    return items


__all__ = [
    "NAME_FIELDS",
    "OFF",
    "RESERVED",
    "TRANSFORM_NAMES",
    "TransformOptions",
    "Watermark",
    "sink_options",
    "write_mode",
]

"""What making a flow as wanted would change, field by field, and which changes lose something.

Two definitions are compared by meaning, not by spelling: options may be text or values, destinations are told apart by
their names, and a default written out is equal to one left out where it decides about a slot, a publication or a mode.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError

from wallaby import secret
from wallaby.errors import ConfigError
from wallaby.flow.options import DestinationOptions, PublicationSync, SourceOptions
from wallaby.flow.spec import EndpointSpec, FlowSpec
from wallaby.flow.transforms import TRANSFORM_NAMES, write_mode


class PlannedAction(StrEnum):
    """What is to be done with a flow."""

    NONE = "none"
    """It is stored as wanted."""
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One field that differs. Values are plain, secrets hidden; None where there is no value."""

    path: str
    """As in a flow file; a destination by its name: ``destinations[lake].options.path``."""
    before: Any = None
    after: Any = None
    destructive: str = ""
    """Why the change loses something that cannot be had back; empty when it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPlan:
    """What is to be done with one flow."""

    flow: str
    action: PlannedAction
    changes: tuple[FieldChange, ...] = ()

    @property
    def is_destructive(self) -> bool:
        return any(change.destructive for change in self.changes)


DELETION: Final = "its definition, its checkpoint and the captured schema changes are forgotten"
_NEW_SLOT: Final = "the old slot keeps WAL until it is dropped, and the new one needs a new copy"
_NEW_SOURCE: Final = "positions belong to the old database"
_NEW_PUBLICATION: Final = "tables that the new publication lacks are replicated no more"
_FEWER_TABLES: Final = "tables that are no longer listed leave the publication"
_REMOVED: Final = "it gets no further changes, and its position is given up"
_NEW_TARGET: Final = "the old target is left as it is, and the new one lacks the rows copied before"
_NEW_MODE: Final = "what the target holds was written in the other mode"
_NEW_RULES: Final = "what the target holds was written by the old rules, unless its tables are copied again"
_PLACES: Final = frozenset(
    {"bucket", "database", "dsn", "endpoint", "path", "prefix", "schema", "stream", "table", "topic", "url"}
)
"""Options of destinations that say where the target is."""
_FLOW_FIELDS: Final = ("name", "wire_format", "parallelism")


def plan_flow(wanted: FlowSpec, present: FlowSpec | None) -> FlowPlan:
    """The changes that lead from ``present`` (None: there is no such flow) to ``wanted``."""
    if present is None:
        changes = tuple(FieldChange(path=path, after=value) for path, value in _leaves(_plain(wanted), ""))
        return FlowPlan(flow=wanted.id, action=PlannedAction.CREATE, changes=changes)
    found = tuple(_differences(present, wanted))
    return FlowPlan(flow=wanted.id, action=PlannedAction.UPDATE if found else PlannedAction.NONE, changes=found)


def plan_deletion(flow_id: str) -> FlowPlan:
    """The plan of a flow that nobody wants any more."""
    change = FieldChange(path="id", before=flow_id, destructive=DELETION)
    return FlowPlan(flow=flow_id, action=PlannedAction.DELETE, changes=(change,))


def _differences(present: FlowSpec, wanted: FlowSpec) -> Iterator[FieldChange]:
    before, after = _plain(present), _plain(wanted)
    for name in _FLOW_FIELDS:
        yield from _changed(name, before.get(name), after.get(name))
    yield from _source(present, wanted)
    yield from _destinations(present, wanted)
    old, new = dict(_leaves(before["config"], "config")), dict(_leaves(after["config"], "config"))
    for path in dict.fromkeys((*old, *new)):
        yield from _changed(path, old.get(path), new.get(path))


def _source(present: FlowSpec, wanted: FlowSpec) -> Iterator[FieldChange]:
    old, new = _source_options(present), _source_options(wanted)
    losses: dict[str, str] = {}
    if present.source.options.get("dsn") != wanted.source.options.get("dsn"):
        losses["dsn"] = _NEW_SOURCE
    if old is None or new is None or old.slot != new.slot:
        losses["slot"] = _NEW_SLOT
    if old is None or new is None or old.publication != new.publication:
        losses["publication"] = _NEW_PUBLICATION
    if old is not None and new is not None and _drops_tables(old, new):
        losses |= dict.fromkeys(("publication_tables", "publication_schemas", "tables", "schemas"), _FEWER_TABLES)
    yield from _changed("source.name", present.source.name, wanted.source.name)
    yield from _changed("source.type", present.source.type, wanted.source.type, destructive=_NEW_SOURCE)
    yield from _options("source.options", present.source, wanted.source, losses)


def _drops_tables(old: SourceOptions, new: SourceOptions) -> bool:
    is_synced = new.sync_publication and new.sync_publication_mode is PublicationSync.SYNC
    return is_synced and not set(old.table_patterns()) <= set(new.table_patterns())


def _destinations(present: FlowSpec, wanted: FlowSpec) -> Iterator[FieldChange]:
    old = {destination.name: destination for destination in present.destinations}
    new = {destination.name: destination for destination in wanted.destinations}
    for name, destination in old.items():
        if name not in new:
            yield FieldChange(path=f"destinations[{name}]", before=_endpoint(destination), destructive=_REMOVED)
    for name, destination in new.items():
        path = f"destinations[{name}]"
        if name not in old:
            yield FieldChange(path=path, after=_endpoint(destination))
            continue
        losses = dict.fromkeys(_PLACES, _NEW_TARGET) | dict.fromkeys(TRANSFORM_NAMES, _NEW_RULES)
        if _mode(old[name]) != _mode(destination):
            losses |= {"write_mode": _NEW_MODE, "append_mode": _NEW_MODE}
        yield from _changed(f"{path}.type", old[name].type, destination.type, destructive=_NEW_TARGET)
        yield from _options(f"{path}.options", old[name], destination, losses)
    kept = [name for name in old if name in new]
    order = [name for name in new if name in old]
    yield from _changed("destinations", kept, order)


def _options(path: str, old: EndpointSpec, new: EndpointSpec, losses: Mapping[str, str]) -> Iterator[FieldChange]:
    before, after = _endpoint(old)["options"], _endpoint(new)["options"]
    for name in sorted({*before, *after}):
        yield from _changed(f"{path}.{name}", before.get(name), after.get(name), destructive=losses.get(name, ""))


def _changed(path: str, before: Any, after: Any, *, destructive: str = "") -> Iterator[FieldChange]:
    if _text(before) != _text(after):
        yield FieldChange(path=path, before=before, after=after, destructive=destructive)


def _source_options(spec: FlowSpec) -> SourceOptions | None:
    try:
        return spec.source_options()
    except ConfigError:
        return None  # stored by a release that knew other options


def _mode(destination: EndpointSpec) -> Any:
    given = destination.options.get("write_mode")
    try:
        return (
            DestinationOptions.model_validate({"write_mode": given}).write_mode
            if given
            else write_mode(destination.options)
        )
    except ValidationError:
        return given


def _plain(spec: FlowSpec) -> dict[str, Any]:
    mapping = spec.to_mapping()
    mapping["source"] = _endpoint(spec.source)
    mapping["destinations"] = {destination.name: _endpoint(destination) for destination in spec.destinations}
    return mapping


def _endpoint(endpoint: EndpointSpec) -> dict[str, Any]:
    # In order of their names: a message keeps them in none.
    options = {name: value for name, value in sorted(secret.redact(endpoint.options).items()) if _text(value)}
    return {"type": endpoint.type, "options": options}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield path, value
        return
    for name, item in value.items():
        where = f"{path}[{name}]" if path == "destinations" else f"{path}.{name}" if path else str(name)
        yield from _leaves(item, where)


def _text(value: Any) -> str:
    """One spelling per value: what the API keeps of an option, where everything is text."""
    return _written(value).strip()


def _written(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list() | tuple():
            return ",".join(map(_written, value))
        case Mapping():
            return json.dumps(value, sort_keys=True)
        case _:
            return str(value)

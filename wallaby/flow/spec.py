"""A flow: one PostgreSQL source, one slot, one or more destinations. The Go WALlaby's flow files read unchanged."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from wallaby import secret
from wallaby.endpoints import SOURCE_TYPE, sink_factory
from wallaby.errors import ConfigError
from wallaby.flow.consent import mappings_text
from wallaby.flow.model import Strict
from wallaby.flow.options import DestinationOptions, SourceOptions
from wallaby.flow.problems import InvalidFlow, Problem, problems_of, translate
from wallaby.flow.transforms import TransformOptions, sink_options, write_mode
from wallaby.sink import Capabilities, Finding, Severity, WriteMode
from wallaby.suggestion import nearest

if TYPE_CHECKING:
    from wallaby.window import LaneId

PARALLELISM_MAX: Final = 64
DESTINATIONS_MAX: Final = 64
OPTIONS_MAX: Final = 256
ATTEMPTS_MAX: Final = 100

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_ENDPOINT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", re.ASCII)


class WireFormat(StrEnum):
    """The Go WALlaby's format tag; kept and returned. Destinations with a format of their own say so in options."""

    ARROW = "arrow"
    PARQUET = "parquet"
    PROTO = "proto"
    AVRO = "avro"
    JSON = "json"


class AckPolicy(StrEnum):
    """Which destinations must have a change before the source may forget it."""

    ALL = "all"
    PRIMARY = "primary"
    """Treated as ``all`` until a flow can keep a change log: without one the others would lose changes in a crash."""


class FailureMode(StrEnum):
    """What happens to the slot when the flow fails for good."""

    HOLD_SLOT = "hold_slot"
    """Keep it: nothing is lost, WAL is retained on the source. The default."""
    DROP_SLOT = "drop_slot"
    """Drop it: the source is relieved, and the flow needs a new initial copy."""


class GiveUpPolicy(StrEnum):
    """Whether restarts ever end."""

    ON_RETRY_EXHAUSTION = "on_retry_exhaustion"
    """Fail the flow when the retry budget of an error is spent."""
    NEVER = "never"
    """Try again for ever, with growing pauses. The default: nothing is lost, and it heals by itself."""


def _word(aliases: Mapping[str, str]) -> BeforeValidator:
    def read(value: Any) -> Any:
        text = value.strip().lower() if isinstance(value, str) else value
        return aliases.get(text, text) if isinstance(text, str) else text

    return BeforeValidator(read)


class DdlPolicy(Strict):
    """What to do with schema changes. Absent values mean wallaby's defaults."""

    gate: bool | None = None
    """Stop at a schema change until it is approved; not supported yet."""
    auto_approve: bool | None = None
    """Kept for Go files; without a gate it has no effect."""
    auto_apply: bool | None = None
    """Kept for Go files; without a gate it has no effect."""

    @field_validator("gate")
    @classmethod
    def _gate(cls, value: bool | None) -> bool | None:
        if value:
            raise ValueError("is not supported yet; remove it, schema changes are applied at a barrier")
        return value


class DeadLetterPolicy(StrEnum):
    """What becomes of a row that a destination refuses."""

    STOP = "stop"
    """The flow stops and says why; nothing is set aside."""
    PARK = "park"
    """Its table is parked: this and all later changes of the table wait as dead letters. The default."""
    SKIP = "skip"
    """It is set aside with all later changes of its key; the table's other rows flow."""


class DeadLetterPayload(StrEnum):
    """Whether the rows of dead letters are kept."""

    AUTO = "auto"
    """Encrypted when ``WALLABY_SECRET_KEY`` is set, else omitted. The default."""
    ENCRYPTED = "encrypted"
    """Kept in the control store under ``WALLABY_SECRET_KEY``, without which the flow does not start."""
    OMITTED = "omitted"
    """Not kept: a letter says where and why, and cannot be replayed."""


class DeadLetters(Strict):
    """Rows that a destination refuses: a value its type does not hold, a constraint, a trigger that raises."""

    policy: Annotated[DeadLetterPolicy, _word({})] = DeadLetterPolicy.PARK
    """``park`` (default), ``skip`` or ``stop``."""
    attempts: int = Field(default=1, ge=1, le=ATTEMPTS_MAX)
    """How often the row is tried by itself before it is set aside."""
    payload: Annotated[DeadLetterPayload, _word({})] = DeadLetterPayload.AUTO
    """``auto`` (default), ``encrypted`` or ``omitted``."""

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, values: Any) -> Any:
        return _without_empty(values)


class FlowConfig(Strict):
    """How the flow behaves as a whole."""

    ack_policy: Annotated[AckPolicy, _word({})] = AckPolicy.ALL
    """``all`` (default) or ``primary``."""
    primary_destination: str | None = None
    """With ``primary``: the destination's name; default the first."""
    failure_mode: Annotated[FailureMode, _word({"hold": "hold_slot", "drop": "drop_slot"})] = FailureMode.HOLD_SLOT
    """``hold_slot`` (default) or ``drop_slot``."""
    give_up_policy: Annotated[
        GiveUpPolicy, _word({"on_retry": "on_retry_exhaustion", "retry_exhaustion": "on_retry_exhaustion"})
    ] = GiveUpPolicy.NEVER
    """``never`` (default) or ``on_retry_exhaustion``."""
    ddl: DdlPolicy = Field(default_factory=DdlPolicy)
    """Schema changes."""
    dead_letters: DeadLetters = Field(default_factory=DeadLetters)
    """Rows that a destination refuses."""

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, values: Any) -> Any:
        return _without_empty(values)


class EndpointSpec(Strict):
    """A source or destination: its type, and options as the file gives them. Secrets may be references."""

    name: str = ""
    """How it is called in messages, positions and metrics; default: the type."""
    type: str
    """``postgres``, ``duckdb``, ``files`` …"""
    options: dict[str, Any] = Field(default_factory=dict, max_length=OPTIONS_MAX)
    """Options of the type; text, numbers, booleans, or lists of text."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from (("name", self.name), ("type", self.type), ("options", secret.redact(self.options)))

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        values = _without_empty(values)
        if isinstance(values, Mapping) and isinstance(values.get("type"), str):
            return {"name": values["type"].strip(), **values}
        return values

    @field_validator("type")
    @classmethod
    def _type(cls, value: str) -> str:
        if not value:
            raise ValueError("must not be empty")
        return value.lower()

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _ENDPOINT_NAME.fullmatch(value):
            raise ValueError("must have 1 to 63 letters, digits, spaces or ._- and begin with a letter or digit")
        return value

    @field_validator("options")
    @classmethod
    def _options(cls, options: dict[str, Any]) -> dict[str, Any]:
        options = {
            name: mappings_text(value) if name == "type_mappings" and isinstance(value, Mapping) else value
            for name, value in options.items()
        }
        for name, value in options.items():
            items = value if isinstance(value, list | tuple) else (value,)
            if not all(map(_is_plain, (name, *items))):
                raise ValueError(f"option {name!r} must be text, a number, true, false, or a list of those")
        return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


class FlowSpec(Strict):
    """One flow, complete and valid in itself. `from_mapping` and `from_file` check the options of its endpoints too."""

    id: str
    """``[a-z0-9][a-z0-9_-]{0,62}``; default: made from the name."""
    name: str = Field(min_length=1, max_length=200)
    """For people."""
    source: EndpointSpec
    """Where changes come from; type ``postgres``."""
    destinations: tuple[EndpointSpec, ...] = Field(min_length=1, max_length=DESTINATIONS_MAX)
    """Where changes go; names must differ."""
    wire_format: Annotated[WireFormat | None, _word({})] = None
    """Kept for Go files."""
    parallelism: int = Field(default=1, ge=1, le=PARALLELISM_MAX)
    """Lanes per destination that allows several; 1 keeps source transactions whole."""
    config: FlowConfig = Field(default_factory=FlowConfig)
    """Behaviour as a whole."""

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a YAML or JSON file; `ConfigError` lists everything wrong with it. Opens no connection."""
        from wallaby.flow.file import read_flow_file

        return cls.from_mapping(read_flow_file(Path(path)))

    @classmethod
    def from_mapping(cls, mapping: Any, *, with_options: bool = True) -> Self:
        """Check a flow given as plain values; `InvalidFlow` (a `ConfigError`) lists every problem with its path.

        ``with_options`` False leaves the endpoints' options to somebody else, who has their packages and secrets.
        """
        problems: list[Problem] = []
        spec: Self | None = None
        try:
            spec = cls.model_validate(mapping)
        except ValidationError as error:
            problems.extend(_with_nearest(translate(error)))
        except RecursionError:
            raise InvalidFlow([Problem("", "is nested too deeply")]) from None
        if with_options:
            problems.extend(_option_problems(mapping))
        if problems or spec is None:
            raise InvalidFlow(problems)
        return spec

    def to_mapping(self) -> dict[str, Any]:
        """Plain JSON values that `from_mapping` reads back as an equal flow. References stay references."""
        return self.model_dump(mode="json", exclude_none=True)

    def source_options(self) -> SourceOptions:
        """Typed source options with slot and publication filled in; references in secrets are not resolved."""
        options = _parse_source(self.source.options, "source.options")
        default = default_slot(self.id)
        return options.model_copy(
            update={"slot": options.slot or default, "publication": options.publication or default}
        )

    def capabilities(self, destination: str) -> Capabilities:
        """What the named destination can do under its options; opens nothing."""
        index, endpoint = next((i, d) for i, d in enumerate(self.destinations) if d.name == destination)
        return _describe(endpoint.type, endpoint.options, f"destinations[{index}]")

    def lanes(self) -> tuple[LaneId, ...]:
        """Every lane of the flow: ``parallelism`` per destination that allows several, else one."""
        from wallaby.window import LaneId  # with Arrow, which nobody needs to read a flow file

        result: list[LaneId] = []
        for destination in self.destinations:
            several = self.parallelism > 1 and self.capabilities(destination.name).parallel_lanes
            count = self.parallelism if several else 1
            result.extend(LaneId(self.id, destination.name, index, count) for index in range(count))
        return tuple(result)

    def required_destinations(self) -> frozenset[str]:
        """Names of the destinations that must have a change before the source may forget it; see `AckPolicy`."""
        return frozenset(destination.name for destination in self.destinations)

    def findings(self) -> tuple[Finding, ...]:
        """What is accepted but does less than its name says."""
        found = _ignored("source", SourceOptions.ignored(self.source.options))
        for index, destination in enumerate(self.destinations):
            found += _ignored(f"destinations[{index}]", DestinationOptions.ignored(destination.options))
        if self.config.ack_policy is AckPolicy.PRIMARY and len(self.destinations) > 1:
            found.append(
                Finding(
                    severity=Severity.WARNING,
                    subject="config.ack_policy",
                    message="primary is treated as all: every destination must have a change before the slot moves",
                    advice="Without a change log the other destinations would lose changes in a crash",
                    code="ack-policy-all",
                )
            )
        return tuple(found)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        values = _without_empty(values)
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        if "name" not in filled and isinstance(filled.get("id"), str):
            filled["name"] = filled["id"]
        if "id" not in filled and isinstance(filled.get("name"), str):
            filled["id"] = flow_id(filled["name"])
        return filled

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _is_text(value):
            raise ValueError("must be text without NUL")
        return value

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not value:
            raise ValueError("cannot be made from the name; give an id of a-z, 0-9, _ and -")
        if not _ID.fullmatch(value):
            raise ValueError("must have 1 to 63 characters out of a-z, 0-9, _ and -, and begin with a letter or digit")
        return value

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [destination.name for destination in self.destinations]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two destinations are named {name!r}; give each a name of its own")
        primary = self.config.primary_destination
        if primary is not None and primary not in names:
            raise ValueError(f"config.primary_destination {primary!r} is not a destination. {nearest(primary, names)}")
        return self


def flow_id(name: str) -> str:
    """The id a flow of this name gets: lower case, ``_`` for everything else; empty when nothing is left."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower(), flags=re.ASCII).strip("_")[:63].rstrip("_")


def default_slot(flow: str) -> str:
    """``wallaby_`` and the flow's id; where that needs changing to be a slot name, a hash keeps flows apart."""
    name = f"wallaby_{flow.replace('-', '_')}"
    if "-" not in flow and len(name) <= 63:
        return name
    return f"{name[:54]}_{hashlib.sha256(flow.encode()).hexdigest()[:8]}"


def _is_plain(value: Any) -> bool:
    """True for what JSON and PostgreSQL's jsonb both keep exactly."""
    match value:
        case None | bool():
            return True
        case str():
            return _is_text(value)
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case _:
            return False


def _is_text(value: str) -> bool:
    return "\0" not in value and not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


def _without_empty(values: Any) -> Any:
    # Go files and protobuf write "" where nothing is meant.
    if not isinstance(values, Mapping):
        return values
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }


def _option_problems(mapping: Any) -> list[Problem]:
    """Problems inside the options of every endpoint that is well formed enough to look at."""
    if not isinstance(mapping, Mapping):
        return []
    problems: list[Problem] = []
    source = mapping.get("source")
    if isinstance(source, Mapping) and isinstance(source.get("type"), str):
        if source["type"].strip().lower() not in (SOURCE_TYPE, "postgresql"):
            problems.append(Problem("source.type", "must be postgres", "It is the only source type"))
        elif (options := _options_of(source)) is not None:
            problems += _caught(lambda: _parse_source(options, "source.options"))
    destinations = mapping.get("destinations")
    for index, destination in enumerate(destinations[:DESTINATIONS_MAX] if isinstance(destinations, list) else ()):
        if not isinstance(destination, Mapping) or not isinstance(destination.get("type"), str):
            continue
        kind, found = destination["type"].strip().lower(), _options_of(destination)
        if kind and found is not None:
            problems += _caught(lambda k=kind, o=found, i=index: _describe(k, o, f"destinations[{i}]"))
    return problems


def _options_of(endpoint: Mapping[Any, Any]) -> dict[str, Any] | None:
    options = endpoint.get("options", {})
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        return None
    return dict(options) if len(options) <= OPTIONS_MAX else None


def _caught(check: Any) -> tuple[Problem, ...]:
    try:
        check()
    except ConfigError as error:
        return problems_of(error)
    return ()


def _parse_source(options: Mapping[str, Any], prefix: str) -> SourceOptions:
    try:
        return SourceOptions.parse(options)
    except ConfigError as error:
        raise InvalidFlow(problems_of(error, prefix=prefix)) from None


def _describe(kind: str, options: Mapping[str, Any], prefix: str) -> Capabilities:
    try:
        factory = sink_factory(kind)
    except ConfigError as error:
        error.where["field"] = f"{prefix}.type"
        raise
    problems: list[Problem] = []
    capabilities: Capabilities | None = None
    try:
        capabilities = factory.describe(sink_options(options))
    except ValidationError as error:
        problems += translate(error)
    except ConfigError as error:
        problems += problems_of(error)
    modes = frozenset(WriteMode) if capabilities is None else capabilities.modes
    problems += _caught(lambda: TransformOptions.of(options, mode=write_mode(options, modes)))
    if problems or capabilities is None:
        raise InvalidFlow(problem.under(f"{prefix}.options") for problem in problems)
    return capabilities


def _with_nearest(problems: tuple[Problem, ...]) -> list[Problem]:
    return [
        Problem(p.path, p.message, nearest(p.path.rpartition(".")[2], _keys_at(p.path)))
        if p.message == "is not a known key"
        else p
        for p in problems
    ]


def _keys_at(path: str) -> tuple[str, ...]:
    parent = path.rpartition(".")[0]
    if parent == "":
        return tuple(FlowSpec.model_fields)
    if parent == "config":
        return tuple(FlowConfig.model_fields)
    inner: dict[str, type[Strict]] = {"config.ddl": DdlPolicy, "config.dead_letters": DeadLetters}
    return tuple(inner.get(parent, EndpointSpec).model_fields)


def _ignored(endpoint: str, reasons: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(
            severity=Severity.INFO,
            subject=f"{endpoint}.options.{name}",
            message="has no effect",
            advice=f"{reason[0].upper()}{reason[1:]}",
            code="option-ignored",
        )
        for name, reason in reasons.items()
    ]

"""The JSON Schema of flow files, for completion and checks while they are written; made from the models themselves.

It is a little stricter than wallaby: words are written as the documentation writes them (``mirror``, not ``Mirror``).
Everything else wallaby takes, it takes: numbers and booleans as text, lists as comma-separated text, references
wherever a value may stand, and the options of Go files that have no effect, marked as deprecated.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from wallaby.endpoints import SOURCE_TYPE, TYPE_ALIASES, known_types, sink_factory
from wallaby.errors import MissingExtra
from wallaby.flow.duration import Duration
from wallaby.flow.model import OptionsModel
from wallaby.flow.options import DestinationOptions, SourceOptions
from wallaby.flow.size import parse_size
from wallaby.flow.spec import DESTINATIONS_MAX, EndpointSpec, FlowConfig, FlowSpec
from wallaby.lsn import Lsn

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_Schema = dict[str, Any]

_REFERENCE: Final[_Schema] = {"$ref": "#/$defs/reference"}
_DURATION: Final = get_args(Duration)[0]
_OFF: Final = [False, None, 0, "", "false", "off", "no", "none", "0"]
_SIZE: Final[_Schema] = {"type": "string", "pattern": "^ *[0-9]{1,12} ?([kKmMgG][iI]?)?[bB] *$"}
_WORDS: Final[Mapping[str, tuple[str | bool, ...]]] = {
    "write_mode": ("target",),
    "failure_mode": ("hold", "drop"),
    "give_up_policy": ("on_retry", "retry_exhaustion"),
    "toast_fetch": (False,),
}
"""Go words, and what YAML makes of ours, that are read as one of ours."""


def flow_schema(destinations: Iterable[str] | None = None) -> _Schema:
    """The schema of a document of a flow file; ``destinations`` are the types it knows, default the installed ones."""
    kinds = sorted(known_types() if destinations is None else destinations)
    definitions: _Schema = {
        "reference": {
            "description": "A secret by reference: an environment variable, a file, or a secret of the control store.",
            "type": "string",
            "pattern": "^(env|file|secret):.+",
        },
        "config": _model(FlowConfig),
        "flow": _flow(),
        "source": _endpoint("The PostgreSQL database changes come from.", [SOURCE_TYPE, "postgresql"])
        | {"allOf": [{"properties": {"options": {"$ref": "#/$defs/source_options"}}}]},
        "source_options": _options(SourceOptions),
        "destination": _destination(kinds),
    }
    for kind in kinds:
        definitions[f"{kind}_options"] = _options(_options_model(kind))
    extra = {
        "$schema": {"type": "string", "description": "This schema, for editors; wallaby does not read it."},
        "variables": {
            "description": "Environment variables that ${env:NAME} in values may name. Not for secrets.",
            "type": "array",
            "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        },
    }
    flow = definitions["flow"]
    several: _Schema = {
        "description": "Several flows.",
        "type": "object",
        "properties": {"flows": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/flow"}}, **extra},
        "required": ["flows"],
        "additionalProperties": False,
    }
    return {
        "$schema": DIALECT,
        "title": "wallaby flow file",
        "if": {"type": "object", "required": ["flows"]},
        "then": several,
        "else": {**flow, "properties": {**flow["properties"], **extra}},
        "$defs": definitions,
    }


def _flow() -> _Schema:
    schema = _model(FlowSpec)
    schema["properties"] |= {
        "source": {"$ref": "#/$defs/source"},
        "destinations": {
            "description": schema["properties"]["destinations"]["description"],
            "type": "array",
            "minItems": 1,
            "maxItems": DESTINATIONS_MAX,
            "items": {"$ref": "#/$defs/destination"},
        },
        "config": {"$ref": "#/$defs/config"},
    }
    schema["required"] = ["source", "destinations"]
    schema["anyOf"] = [{"required": ["name"]}, {"required": ["id"]}]
    return schema


def _destination(kinds: list[str]) -> _Schema:
    names = {kind: [kind, *(alias for alias, target in TYPE_ALIASES.items() if target == kind)] for kind in kinds}
    schema = _endpoint("A place changes go to.", [name for several in names.values() for name in several])
    schema["allOf"] = [
        {
            "if": {"properties": {"type": {"enum": several}}, "required": ["type"]},
            "then": {"properties": {"options": {"$ref": f"#/$defs/{kind}_options"}}},
        }
        for kind, several in names.items()
    ]
    return schema


def _endpoint(description: str, kinds: list[str]) -> _Schema:
    schema = _model(EndpointSpec)
    schema["properties"]["type"]["enum"] = kinds
    schema["properties"]["options"] = {"type": "object"}
    return schema | {"description": description, "required": ["type"]}


def _options_model(kind: str) -> type[OptionsModel]:
    try:
        return getattr(sink_factory(kind), "options_model", DestinationOptions)
    except MissingExtra:
        return DestinationOptions


def _options(model: type[OptionsModel]) -> _Schema:
    schema = _model(model)
    properties = schema["properties"]
    for name, value in properties.items():
        properties[name] = {"description": value.pop("description"), "anyOf": [value, _REFERENCE, {"const": ""}]}
    for name in model.option_names():
        properties.setdefault(name, {"description": "Another name of an option; see the documentation."})
    for name, reason in model.without_effect.items():
        properties.setdefault(name, {"description": f"Has no effect: {reason}.", "deprecated": True})
    for name, advice in model.unsupported.items():
        properties.setdefault(name, {"description": f"Not supported. {advice}.", "deprecated": True, "enum": _OFF})
    if model is DestinationOptions:  # a sink that does not tell its options may have more
        schema["additionalProperties"] = True
    aliased = set(model.option_names()) - {field.alias or name for name, field in model.model_fields.items()}
    if aliased and model is not SourceOptions:  # the alias may stand for what is required
        schema.pop("required", None)
    return schema


def _model(model: type[BaseModel]) -> _Schema:
    docs = _docs(model)
    properties: _Schema = {}
    required = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        properties[key] = {"description": docs.get(name, ""), **_value(name, field)}
        if field.is_required():
            required.append(key)
    schema: _Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _value(name: str, field: FieldInfo) -> _Schema:
    if _is_size(field.metadata):
        return dict(_SIZE)
    schema = _type(name, field.annotation)
    for rule in field.metadata:
        for source, target in (
            ("ge", "minimum"),
            ("le", "maximum"),
            ("min_length", "minLength"),
            ("pattern", "pattern"),
        ):
            limit = getattr(rule, source, None)
            if limit is not None and "type" in schema:
                schema[target] = limit
            elif limit is not None and target in ("minimum", "maximum"):
                schema["anyOf"][0][target] = limit
    return schema


def _type(name: str, annotation: Any) -> _Schema:
    if get_origin(annotation) is Annotated:
        inner, *rules = get_args(annotation)
        return dict(_SIZE) if _is_size(rules) else _type(name, inner)
    if get_origin(annotation) in (Union, types.UnionType):
        [inner] = [item for item in get_args(annotation) if item is not type(None)]
        return _type(name, inner)
    if get_origin(annotation) is tuple and get_origin(get_args(annotation)[0]) is tuple:
        return {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}, {"type": "string"}]}
    if get_origin(annotation) in (tuple, dict):  # a mapping is a list of name=value
        return {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}
    if annotation is _DURATION:
        return {"anyOf": [{"type": "string", "pattern": "^[0-9]"}, {"type": "integer", "minimum": 0}]}
    if annotation is Lsn:
        return {"type": "string", "pattern": "^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"}
    if annotation is bool:
        return {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false"]}]}
    if annotation is int:
        return {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]}
    if inspect.isclass(annotation) and issubclass(annotation, StrEnum):
        words: list[Any] = [*(item.value for item in annotation), *_WORDS.get(name, ())]
        words += [True, False] if {"on", "off"} <= set(words) or {"true", "false"} <= set(words) else []
        words += [False] if "off" in words and "on" not in words else []  # as YAML reads it
        return {"enum": words + ([None] if "null" in words else [])}
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return _model(annotation)
    return {"type": "string"}


def _is_size(rules: Iterable[Any]) -> bool:
    return any(isinstance(rule, BeforeValidator) and rule.func is parse_size for rule in rules)


def _docs(model: type[BaseModel]) -> dict[str, str]:
    """What the models' own source says about each field, as one line of plain text."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not (issubclass(owner, BaseModel) and owner is not BaseModel):
            continue
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, after in zip(definition.body, definition.body[1:], strict=False):
            match statement, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.replace("``", "`").split())
    return found

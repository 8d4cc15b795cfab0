"""Reading flow files: YAML or JSON, strict about duplicate keys, bounded, and silent about contents.

A file holds one flow, or several: as YAML documents, or as the list ``flows`` of a document that has nothing else but
``variables``. ``${env:NAME}`` inside a value is replaced by that environment variable, when the document lists the name
under ``variables``; anything else of that form is refused, so that a misspelt name never ends up in a definition.
Secrets are not for this: they stay references (``env:NAME``), which are not replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from wallaby import secret
from wallaby.errors import ConfigError

FILE_BYTES_MAX: Final = 1 << 20
"""A flow file is a page of text; anything larger is a mistake."""


FLOWS_MAX: Final = 1_000
"""Flows of one file."""
FILES_MAX: Final = 1_000
"""Flow files of one directory."""
SUFFIXES: Final = (".json", ".yaml", ".yml")
"""Files of a directory that are flow files."""
_VALUES_MAX: Final = 100_000
"""YAML aliases can make a small file large."""
_VARIABLE: Final = re.compile(r"\$\{env:([^}]*)\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class FlowDocument:
    """One flow as its file writes it, variables replaced, not yet checked."""

    mapping: dict[str, Any]
    place: str
    """For messages: the file, and where it holds several flows, which of them."""


def read_flow_file(path: Path) -> dict[str, Any]:
    """The one flow in ``path``: JSON when it ends in ``.json``, else YAML (which reads JSON as well).

    `ConfigError` names the file and the line, and shows nothing of the content.
    """
    documents = read_flow_documents(path)
    if len(documents) != 1:
        raise ConfigError(
            f"the flow file holds {len(documents)} flows, and one is needed here",
            file=path,
            advice="`wallaby plan` and `wallaby apply` take files of several flows",
        )
    return documents[0].mapping


def read_flow_documents(path: Path) -> list[FlowDocument]:
    """Every flow in ``path``, in the file's order; at least one. `ConfigError` as `read_flow_file`."""
    text = _content(path)
    values = [_read_json(text, path)] if path.suffix.lower() == ".json" else _read_yaml(text, path)
    found: list[FlowDocument] = []
    try:
        for value in values:
            found += _flows(value, path, len(found))
            if len(found) > FLOWS_MAX:
                raise ConfigError(f"the flow file holds more than {FLOWS_MAX} flows", file=path)
    except RecursionError:
        raise ConfigError("the flow file is nested too deeply", file=path) from None
    if not found:
        raise ConfigError("the flow file holds no flow", file=path, advice=_NEEDED)
    if len(found) == 1:
        return [FlowDocument(found[0].mapping, str(path))]
    return found


def flow_files(place: Path) -> list[Path]:
    """The flow files of a directory and its folders, in order of their names; a file stands for itself.

    What begins with a dot is left out. `ConfigError` when there is none.
    """
    if not place.is_dir():
        return [place]
    found: list[Path] = []
    for path in sorted(place.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            found.append(path)
    if not found:
        raise ConfigError("the directory holds no flow file", file=place, advice="Flow files end in .yaml or .json")
    if len(found) > FILES_MAX:
        raise ConfigError(f"the directory holds more than {FILES_MAX} flow files", file=place)
    return found


_NEEDED: Final = "It needs name, source and destinations"


def _content(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise ConfigError(f"the flow file is larger than {FILE_BYTES_MAX} bytes", file=path)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"the flow file cannot be read: {error.strerror or type(error).__name__}", file=path
        ) from None
    except UnicodeDecodeError:
        raise ConfigError("the flow file is not UTF-8 text", file=path) from None


def _flows(value: Any, path: Path, before: int) -> Iterator[FlowDocument]:
    """The flows of one document; ``before`` were found in the documents before it."""
    if not isinstance(value, dict):
        raise ConfigError("the flow file holds no mapping", file=path, advice=_NEEDED)
    document = {name: item for name, item in value.items() if name != "$schema"}
    variables = _declared(document.pop("variables", None), path)
    if "flows" in document:
        flows = document.pop("flows")
        if document:
            raise ConfigError(
                "a document with flows has nothing else but variables",
                file=path,
                advice="Move the other keys into a flow",
            )
        if not isinstance(flows, list) or not all(isinstance(flow, dict) for flow in flows):
            raise ConfigError("must be a list of flows", field="flows", file=path)
    else:
        flows = [document]
    for number, flow in enumerate(flows, before + 1):
        place = f"{path}, flow {number}"
        yield FlowDocument(_Replacement(variables, place).of(flow, ""), place)


def _declared(names: Any, path: Path) -> Mapping[str, str]:
    """The variables a document declares, with their values."""
    if names is None:
        return {}
    if not isinstance(names, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ConfigError("must be a list of names of environment variables", field="variables", file=path)
    return {name: secret.resolve(f"env:{name}", field="variables") for name in names}


class _Replacement:
    """Puts variables into the values of one flow."""

    def __init__(self, variables: Mapping[str, str], place: str) -> None:
        self._variables = variables
        self._place = place
        self._count = 0

    def of(self, value: Any, path: str) -> Any:
        """``value`` with every ``${env:NAME}`` of its texts replaced; keys stay as they are."""
        self._count += 1
        if self._count > _VALUES_MAX:
            raise ConfigError(f"the flow has more than {_VALUES_MAX} values", file=self._place)
        match value:
            case dict():
                return {name: self.of(item, f"{path}.{name}" if path else str(name)) for name, item in value.items()}
            case list():
                return [self.of(item, f"{path}[{number}]") for number, item in enumerate(value)]
            case str() if "${env:" in value:
                return self._text(value, path)
            case _:
                return value

    def _text(self, text: str, path: str) -> str:
        if not set(_VARIABLE.findall(text)) <= self._variables.keys():
            raise ConfigError(
                "uses a variable that the document does not declare",
                field=path,
                file=self._place,
                advice="List its name under variables; a secret is written env:NAME, without ${}",
            )
        if "${env:" in _VARIABLE.sub("", text):
            raise ConfigError("has ${env: without its closing brace", field=path, file=self._place)
        return _VARIABLE.sub(lambda found: self._variables[found[1]], text)


class _DuplicateKey(ValueError):
    pass


def _read_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not valid JSON at line {error.lineno}, column {error.colno}", file=path) from None
    except _DuplicateKey as error:
        raise ConfigError(f"the key {error} appears twice in one object", file=path) from None
    except (RecursionError, ValueError):
        raise ConfigError("not valid JSON", file=path) from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise _DuplicateKey(repr(name))
        result[name] = value
    return result


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, refusing repeated keys; the last one would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, "repeated key", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _read_yaml(text: str, path: Path) -> list[Any]:
    """The documents; one without content is none."""
    try:
        documents = list(yaml.load_all(text, Loader=_StrictLoader))
        return [document for document in documents if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        rule = "a key appears twice" if error.problem == "repeated key" else "not valid YAML"
        raise ConfigError(f"{rule}{place}", file=path) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ConfigError("not valid YAML", file=path) from None

"""Reading flow files: YAML or JSON, strict about duplicate keys, bounded, and silent about contents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from wallaby.errors import ConfigError

FILE_BYTES_MAX: Final = 1 << 20
"""A flow file is a page of text; anything larger is a mistake."""


def read_flow_file(path: Path) -> dict[str, Any]:
    """The mapping in ``path``: JSON when it ends in ``.json``, else YAML (which reads JSON as well).

    `ConfigError` names the file and the line, and shows nothing of the content.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise ConfigError(f"the flow file is larger than {FILE_BYTES_MAX} bytes", file=path)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"the flow file cannot be read: {error.strerror or type(error).__name__}", file=path
        ) from None
    except UnicodeDecodeError:
        raise ConfigError("the flow file is not UTF-8 text", file=path) from None
    value = _read_json(text, path) if path.suffix.lower() == ".json" else _read_yaml(text, path)
    if not isinstance(value, dict):
        raise ConfigError("the flow file holds no mapping", file=path, advice="It needs name, source and destinations")
    return value


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


def _read_yaml(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        rule = "a key appears twice" if error.problem == "repeated key" else "not valid YAML"
        raise ConfigError(f"{rule}{place}", file=path) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ConfigError("not valid YAML", file=path) from None

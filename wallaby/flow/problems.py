"""What is wrong with a flow file: every problem at once, each with its field path and the nearest known name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from wallaby.errors import ConfigError, WallabyError
from wallaby.suggestion import nearest


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong field: ``path`` as in ``destinations[1].options.dsn`` (empty: the whole), the rule, and advice."""

    path: str
    message: str
    advice: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text}. {self.advice}" if self.advice else text

    def under(self, prefix: str) -> Problem:
        """The same problem seen from outside: ``prefix`` goes before its path."""
        return replace(self, path=join_path(prefix, self.path))


class InvalidFlow(ConfigError):
    """A flow or its options break one or more rules; ``problems`` lists all of them, ``where["field"]`` the first."""

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem], *, what: str = "the flow") -> None:
        self.problems = tuple(problems)
        self._what = what
        assert self.problems, "an InvalidFlow without problems"
        first = self.problems[0]
        if len(self.problems) == 1:
            super().__init__(first.message, advice=first.advice, field=first.path or None)
        else:
            lines = "".join(f"\n  {problem}" for problem in self.problems)
            super().__init__(f"{what} has {len(self.problems)} problems:{lines}", field=first.path or None)

    def __str__(self) -> str:
        return str(self.problems[0]) if len(self.problems) == 1 else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.problems, self._what)


def _rebuild(problems: tuple[Problem, ...], what: str) -> InvalidFlow:
    return InvalidFlow(problems, what=what)


def problems_of(error: WallabyError, *, prefix: str = "") -> tuple[Problem, ...]:
    """The problems inside an error of a part, with their paths seen from the whole."""
    if isinstance(error, InvalidFlow):
        return tuple(problem.under(prefix) for problem in error.problems)
    return (Problem(join_path(prefix, error.where.get("field", "")), error.message, error.advice),)


def translate(error: ValidationError, *, known: Sequence[str] = ()) -> tuple[Problem, ...]:
    """Our problems for pydantic's: rules in our words, never the offending value. ``known`` are the option names."""
    return tuple(_problem(detail, known) for detail in error.errors(include_url=False, include_input=False))


def join_path(prefix: str, path: str) -> str:
    if not prefix or not path:
        return prefix or path
    return f"{prefix}{path}" if path.startswith("[") else f"{prefix}.{path}"


def _path(location: Sequence[int | str]) -> str:
    path = ""
    for step in location:
        path = f"{path}[{step}]" if isinstance(step, int) else join_path(path, str(step))
    return path


def _problem(detail: Any, known: Sequence[str]) -> Problem:
    location, context = detail["loc"], detail.get("ctx", {})
    path = _path(location)
    match detail["type"]:
        case "missing":
            return Problem(path, "is required")
        case "extra_forbidden":
            return Problem(path, "is not a known key", nearest(str(location[-1]), known))
        case "value_error" | "assertion_error":
            return Problem(path, str(context.get("error", "is not valid")))
        case "enum" | "literal_error":
            return Problem(path, f"must be one of {context.get('expected', '')}".replace("'", ""))
        case "bool_parsing" | "bool_type":
            return Problem(path, "must be true or false")
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return Problem(path, "must be a whole number")
        case "string_type":
            return Problem(path, "must be text")
        case "string_too_short":
            return Problem(path, "must not be empty")
        case "string_too_long":
            return Problem(path, f"must have at most {context.get('max_length')} characters")
        case "greater_than_equal":
            return Problem(path, f"must be at least {context.get('ge')}")
        case "less_than_equal":
            return Problem(path, f"must be at most {context.get('le')}")
        case "greater_than":
            return Problem(path, f"must be more than {context.get('gt')}")
        case "less_than":
            return Problem(path, f"must be less than {context.get('lt')}")
        case "too_short":
            return Problem(path, f"needs at least {context.get('min_length')} entry")
        case "too_long":
            return Problem(path, f"takes at most {context.get('max_length')} entries")
        case "dict_type" | "model_type" | "mapping_type" | "model_attributes_type" | "is_instance_of":
            return Problem(path, "must be a mapping of keys to values")
        case "list_type" | "tuple_type":
            return Problem(path, "must be a list")
        case "invalid_key":
            return Problem(path, "keys must be text")
        case other:
            return Problem(path, f"is not valid ({other.replace('_', ' ')})")

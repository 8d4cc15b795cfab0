"""The base of everything read from a flow file: frozen, strict about keys, forgiving about text for numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from wallaby import secret
from wallaby.errors import ConfigError
from wallaby.flow.problems import InvalidFlow, Problem, translate
from wallaby.switch import switched

MODEL_CONFIG: Final = ConfigDict(
    frozen=True,
    extra="forbid",
    populate_by_name=True,
    hide_input_in_errors=True,
    validate_default=False,
    str_strip_whitespace=True,
)


class Strict(BaseModel):
    """Frozen, unknown keys refused; errors of pydantic never show the input."""

    model_config = MODEL_CONFIG


class OptionsModel(Strict):
    """Options of a source or destination. Read them with `parse`, which raises our errors and not pydantic's.

    Values may be text (``"true"``, ``"100"``), as the Go WALlaby's files write them. Empty text means: not given.
    """

    secret_fields: ClassVar[frozenset[str]] = frozenset({"dsn"})
    """Fields whose references (``env:``, ``file:``, ``secret:``) stay unresolved here; other fields are resolved before
    validation."""
    without_effect: ClassVar[Mapping[str, str]] = {}
    """Keys of Go flow files that are accepted and ignored, with the reason."""
    unsupported: ClassVar[Mapping[str, str]] = {}
    """Keys of Go flow files that ask for something we do not have; given a true value they are refused."""

    null_words: ClassVar[frozenset[str]] = frozenset()
    """Fields for which YAML's bare ``null`` means the word, not "not given"."""

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """Validated options; `InvalidFlow` (a `ConfigError`) with paths relative to ``options`` otherwise."""
        problems: list[Problem] = []
        given: dict[str, Any] = {}
        for name, value in options.items():
            if name in cls._names():
                given[name] = cls._resolved(name, value, problems)
            elif name in cls.unsupported:
                if not _is_off(value):
                    problems.append(Problem(name, "is not supported yet", cls.unsupported[name]))
            elif name not in cls.without_effect:
                given[name] = value
        try:
            parsed = cls.model_validate(given)
        except ValidationError as error:
            problems.extend(translate(error, known=cls.option_names()))
        if problems:
            raise InvalidFlow(problems, what="options")
        return parsed

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """The keys a flow file may use; keys without effect are left out."""
        return tuple(sorted(field.alias or name for name, field in cls.model_fields.items()))

    @classmethod
    def ignored(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """The keys of ``options`` that have no effect, with the reason of each."""
        names = cls._names()
        return {name: cls.without_effect[name] for name in options if name in cls.without_effect and name not in names}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, secret.redact_option(name or "", value)

    @classmethod
    def _names(cls) -> frozenset[str]:
        return frozenset((*cls.option_names(), *cls.model_fields))

    @classmethod
    def _resolved(cls, name: str, value: Any, problems: list[Problem]) -> Any:
        if not secret.is_reference(value) or name in cls.secret_fields or secret.is_sensitive_name(name):
            return value
        try:
            return secret.resolve(value)
        except ConfigError as error:
            problems.append(Problem(name, error.message, error.advice))
            return None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            name: "null" if value is None else value
            for name, value in values.items()
            if (name in cls.null_words if value is None else not (isinstance(value, str) and not value.strip()))
        }


def _is_off(value: Any) -> bool:
    is_empty = value is None or (isinstance(value, str) and value.strip().lower() in ("", "none"))
    return is_empty or switched(value) is False

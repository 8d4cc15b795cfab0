"""How columns are masked, as a flow file says it: ``shop.users.email = hmac``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from wallaby.flow.patterns import ColumnGlob, assignment
from wallaby.suggestion import nearest


class MaskKind(StrEnum):
    """What a value is replaced by."""

    HASH = "hash"
    """64 figures: SHA-256 of its text. Whoever can guess values can check the guess."""
    HMAC = "hmac"
    """64 figures: HMAC-SHA-256 of its text under ``mask_secret``."""
    TOKEN = "token"  # noqa: S105  # a word of flow files
    """``tok_`` and 32 figures, under ``mask_secret``."""
    REDACT = "redact"
    """Null; ``redact: TEXT`` that text."""


KEYED: Final = frozenset({MaskKind.HMAC, MaskKind.TOKEN})
SECRET_CHARACTERS_MIN: Final = 16


@dataclass(frozen=True, slots=True)
class MaskRule:
    """One entry of ``mask_columns``."""

    columns: ColumnGlob
    kind: MaskKind
    constant: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError with what is wrong."""
        pattern, what = assignment(text)
        word, colon, constant = what.partition(":")
        columns = ColumnGlob.parse(pattern)
        try:
            kind = MaskKind(word.strip().lower())
        except ValueError:
            raise ValueError(f"has no mask of that name. {nearest(word.strip(), [*MaskKind])}".strip()) from None
        if colon and kind is not MaskKind.REDACT:
            raise ValueError("takes a text for redact only: redact: TEXT")
        return cls(columns, kind, constant.strip() if colon else None)


__all__ = ["KEYED", "SECRET_CHARACTERS_MIN", "MaskKind", "MaskRule"]

"""The words for on and off: the same ones in flow files, in settings and on the command line."""

from __future__ import annotations

from typing import Any, Final

ON: Final = frozenset({"1", "t", "true", "y", "yes", "on"})
OFF: Final = frozenset({"0", "f", "false", "n", "no", "off"})


def switched(value: Any) -> bool | None:
    """What a truth value, a number or a word of any case says; None where it says neither."""
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    return True if word in ON else False if word in OFF else None


__all__ = ["OFF", "ON", "switched"]

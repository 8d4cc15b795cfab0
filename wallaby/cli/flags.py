"""Flags as the Go WALlaby's users type them: one dash or two, ``-json`` or ``-json=false``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wallaby.switch import switched

_LONG = re.compile(r"-[A-Za-z][A-Za-z0-9]*[A-Za-z0-9-]+(=.*)?", re.DOTALL)
_SWITCH = re.compile(
    r"--(json|pretty|start|insecure|pause|resume|wait|prune|yes|force|input|snapshot|apply|ordered|aws-rds-iam|resolve-staging)=(.*)",
    re.DOTALL,
)


def long_flags(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``-endpoint x`` as ``--endpoint x`` and ``-json=false`` as ``--no-json``."""
    result: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            return [*result, *arguments[index:]]
        word = f"-{argument}" if _LONG.fullmatch(argument) else argument
        switch = _SWITCH.fullmatch(word)
        if switch and (is_on := switched(switch[2])) is not None:
            word = f"--{switch[1]}" if is_on else f"--no-{switch[1]}"
        result.append(word)
    return result

"""Commands that are clients of a running wallaby: ``wallaby flow …``, ``wallaby stream …``."""

from wallaby.cli.commands import register, run
from wallaby.cli.flags import long_flags

__all__ = ["long_flags", "register", "run"]

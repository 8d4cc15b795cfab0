"""Commands that need no Ray: clients of a running wallaby, and what looks at files and sources by itself."""

from wallaby.cli.commands import register, run
from wallaby.cli.flags import long_flags

__all__ = ["long_flags", "register", "run"]

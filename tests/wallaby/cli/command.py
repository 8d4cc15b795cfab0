"""Running a client command inside the test, against the API it is given."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.wallaby.api.running import Running
from wallaby import cli
from wallaby.lifecycle import Command, FlowState


def parsed(*words: str) -> argparse.Namespace:
    """What the command line makes of the words; Go's single dashes are read too."""
    parser = argparse.ArgumentParser(prog="wallaby", exit_on_error=False)
    cli.register(parser.add_subparsers(dest="command"))
    parser.set_defaults(whole_parser=parser)
    return parser.parse_args(cli.long_flags(words))


@dataclass(frozen=True, slots=True)
class Wallaby:
    """The command line, with the endpoint of a running API."""

    address: str = ""

    def code(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command that does not raise."""
        output = io.StringIO()
        given = (*words, "-endpoint", self.address) if self.address else words
        return cli.run(parsed(*given), output), output.getvalue()

    def __call__(self, *words: str) -> str:
        """The output of a command that ends with 0."""
        code, output = self.code(*words)
        assert code == 0, output
        return output


@contextmanager
def draining(running: Running) -> Iterator[None]:
    """Flows that are told to stop drain at once, as under an idle driver."""

    def drain(flow_id: str) -> None:
        for record in running.store.list_flows().flows:
            if record.id == flow_id and record.state is FlowState.STOPPING:
                running.store.move_flow(flow_id, Command.FINISH, "drained")

    running.control.on_changed = drain
    yield
    running.control.on_changed = None

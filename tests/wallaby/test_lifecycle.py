"""Every cell of the table of states and commands."""

from __future__ import annotations

import pytest

from wallaby.errors import IllegalMove
from wallaby.lifecycle import DRIVER_COMMANDS, MOVES, Command, FlowState, next_state

# One row per command; columns created, running, paused, stopping, stopped, failed; "-" is forbidden.
TABLE = """
start     running  running   running  -         running  running
stop      paused   stopping  paused   stopping  stopped  paused
pause     paused   stopping  paused   stopping  stopped  paused
resume    -        running   running  -         running  running
run_once  running  -         running  -         running  running
resnapshot running running  running  -         running  running
update    created  -         paused   -         stopped  failed
delete    created  -         paused   -         stopped  failed
fail      -        failed    -        failed    -        failed
finish    -        stopped   paused   paused    stopped  -
retry     -        running   -        stopping  -        -
recover   -        running   -        stopping  -        -
"""
CELLS = [
    (Command(words[0]), state, word)
    for words in (line.split() for line in TABLE.strip().splitlines())
    for state, word in zip(FlowState, words[1:], strict=True)
]


def test_the_table_here_has_every_cell() -> None:
    assert len(CELLS) == len(Command) * len(FlowState)
    assert set(MOVES) == set(Command)


@pytest.mark.parametrize(("command", "state", "expected"), CELLS)
def test_a_command_in_a_state_leads_where_the_table_says(command: Command, state: FlowState, expected: str) -> None:
    if expected == "-":
        with pytest.raises(IllegalMove) as refused:
            next_state(state, command)
        assert refused.value.advice
        assert refused.value.where["state"] == state
    else:
        assert next_state(state, command) == expected


@pytest.mark.parametrize("command", [c for c in Command if c is not Command.RUN_ONCE])
def test_a_repeated_command_changes_nothing_more(command: Command) -> None:
    for state, after in MOVES[command].items():
        assert next_state(after, command) is after, state


def test_only_the_driver_ends_a_run() -> None:
    for command in set(Command) - DRIVER_COMMANDS:
        assert FlowState.FAILED not in set(MOVES[command].values()) - set(MOVES[command])
        assert command in (Command.UPDATE, Command.DELETE) or MOVES[command].get(FlowState.RUNNING) in (
            None,
            FlowState.RUNNING,
            FlowState.STOPPING,
        )

"""A flow's states and the moves between them, as one table.

=========  ===================================================================================  ==============
state      meaning                                                                              set by
=========  ===================================================================================  ==============
created    known, never started                                                                 create
running    wanted to run; the driver runs it, restarts it after failures, survives its own      operator
stopping   told to stop; the driver drains windows in flight and commits them                   operator
paused     drained and idle; continues where it was (`resume` or `start`)                       driver
stopped    ended by itself at the end it was given (`run_once`); continues like ``paused``      driver
failed     given up with a reason; slot and positions are kept; `start` tries again             driver
=========  ===================================================================================  ==============

Every state is stored. Every command is idempotent: given again in the state it leads to, it changes nothing. Only
`resnapshot` is a wish of its own: given again after the copy it asked for has begun, it asks for another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from wallaby.errors import IllegalMove


class FlowState(StrEnum):
    """What is wanted of, or became of, a flow; see the module's table."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Command(StrEnum):
    """What an operator or the driver may ask for."""

    START = "start"
    """Run until told otherwise."""
    STOP = "stop"
    """Drain and pause. The Go WALlaby's word; the flow ends up ``paused``."""
    PAUSE = "pause"
    """The same as ``stop``."""
    RESUME = "resume"
    """Continue a flow that ran before."""
    RUN_ONCE = "run_once"
    """Run up to the WAL position that is current now, then end as ``stopped``."""
    RESNAPSHOT = "resnapshot"
    """Copy everything anew, under a new slot and into emptied targets, then stream; a flow that runs begins again."""
    UPDATE = "update"
    """Replace the definition; the state stays."""
    DELETE = "delete"
    """Remove the flow; the state stays until it is gone."""
    FAIL = "fail"
    """The driver gave up."""
    FINISH = "finish"
    """The driver drained: after ``stop`` the flow is paused, after its own end it is stopped."""
    RETRY = "retry"
    """The run broke off and the driver tries again; the state stays, the reason says why."""
    RECOVER = "recover"
    """The run goes well again after a ``retry``; the state stays."""


DRIVER_COMMANDS: Final = frozenset({Command.FAIL, Command.FINISH, Command.RETRY, Command.RECOVER})
"""Commands only the driver gives; all others belong to operators."""

NOTES: Final = frozenset({Command.RETRY, Command.RECOVER})
"""Commands that move nothing and are told to whoever watches: how a run goes."""

_CREATED, _RUNNING, _PAUSED, _STOPPING, _STOPPED, _FAILED = FlowState
_IDLE: Final = (_CREATED, _PAUSED, _STOPPED, _FAILED)
_HALT: Final = {
    _CREATED: _PAUSED,
    _RUNNING: _STOPPING,
    _STOPPING: _STOPPING,
    _PAUSED: _PAUSED,
    _STOPPED: _STOPPED,
    _FAILED: _PAUSED,
}

MOVES: Final[Mapping[Command, Mapping[FlowState, FlowState]]] = {
    Command.START: dict.fromkeys((*_IDLE, _RUNNING), _RUNNING),
    Command.STOP: _HALT,
    Command.PAUSE: _HALT,
    Command.RESUME: dict.fromkeys((_PAUSED, _STOPPED, _FAILED, _RUNNING), _RUNNING),
    Command.RUN_ONCE: dict.fromkeys(_IDLE, _RUNNING),
    Command.RESNAPSHOT: dict.fromkeys((*_IDLE, _RUNNING), _RUNNING),
    Command.UPDATE: {state: state for state in _IDLE},
    Command.DELETE: {state: state for state in _IDLE},
    Command.FAIL: {_RUNNING: _FAILED, _STOPPING: _FAILED, _FAILED: _FAILED},
    Command.FINISH: {_RUNNING: _STOPPED, _STOPPING: _PAUSED, _PAUSED: _PAUSED, _STOPPED: _STOPPED},
    Command.RETRY: {_RUNNING: _RUNNING, _STOPPING: _STOPPING},
    Command.RECOVER: {_RUNNING: _RUNNING, _STOPPING: _STOPPING},
}
"""The legal moves; a pair that is missing is forbidden."""

_ADVICE: Final[Mapping[FlowState, str]] = {
    _CREATED: "Start it first",
    _RUNNING: "Stop it first",
    _STOPPING: "Wait until it is paused",
    _PAUSED: "It is not running",
    _STOPPED: "It is not running",
    _FAILED: "Start or resume it to try again",
}


def next_state(state: FlowState, command: Command) -> FlowState:
    """The state after ``command``; `IllegalMove` with advice when the table has no such move."""
    try:
        return MOVES[command][state]
    except KeyError:
        word = command.value.replace("_", "-")
        raise IllegalMove(
            f"a flow that is {state} cannot take the command {word}", advice=_ADVICE[state], state=state
        ) from None

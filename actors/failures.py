"""What a failed Ray call means for a flow."""

from __future__ import annotations

import ray.exceptions as rx

from wallaby.errors import Transient, WallabyError


class ProcessLost(Transient):
    """An actor process died or cannot be reached; whether its last call happened is unknown. A new epoch finds out."""


def cause_of(error: BaseException, *, actor: str) -> BaseException:
    """The wallaby error inside a Ray error, `ProcessLost` for a dead or unreachable process, else the error itself."""
    match error:
        case rx.RayTaskError():
            # Ray makes a class that is both a RayTaskError and the cause's; only the cause prints as we want.
            inner = error.cause
            if isinstance(inner, BaseException) and inner is not error:
                return cause_of(inner, actor=actor)
            return error
        case WallabyError():
            return error
        case rx.RayActorError() | rx.ObjectLostError() | rx.GetTimeoutError() | rx.WorkerCrashedError():
            return ProcessLost(f"the {actor} process is gone ({type(error).__name__})", actor=actor)
        case rx.RayError():
            return ProcessLost(f"Ray lost the call to {actor} ({type(error).__name__})", actor=actor)
        case _:
            return error

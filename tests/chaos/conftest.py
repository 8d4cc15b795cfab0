"""What a chaos run may be told: a seed and a number of faults, from the environment, read here alone."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """``WALLABY_CHAOS_SEED`` (default: a fresh one) and ``WALLABY_CHAOS_FAULTS`` (default: 36)."""

    seed: int
    faults: int

    def repeat(self, test: str) -> str:
        """The command that runs the same history again."""
        options = f"WALLABY_CHAOS_SEED={self.seed} WALLABY_CHAOS_FAULTS={self.faults}"
        return f"{options} make chaos PYTEST_ARGS='-k {test}'"


@pytest.fixture(scope="session")
def chaos() -> ChaosOptions:
    """This run's options."""
    seed = os.environ.get("WALLABY_CHAOS_SEED")
    return ChaosOptions(
        seed=int(seed) if seed else secrets.randbelow(1_000_000),
        faults=int(os.environ.get("WALLABY_CHAOS_FAULTS", "36")),
    )


@pytest.fixture(autouse=True)
def told_how_to_repeat(request: pytest.FixtureRequest) -> None:
    """A failing run names its seed: shown by pytest with what a failed test printed."""
    if "chaos" in request.fixturenames:
        options: ChaosOptions = request.getfixturevalue("chaos")
        print(f"repeat with: {options.repeat(request.node.name)}")

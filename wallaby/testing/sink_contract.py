"""The sink contract, executable: subclass `SinkContract` in a test module and say how to reach the destination.

::

    class TestMySink(SinkContract):
        @pytest.fixture(autouse=True)
        def destination(self, tmp_path):
            self.path = tmp_path / "target.db"

        def make_sink(self, *, mode):
            return MySink(self.path, mode=mode)

        def read_table(self, schema): ...
        def read_log(self, schema): ...

A sink that claims histories says ``modes = tuple(WriteMode)`` and has a ``read_history``, too.
See `wallaby.testing.contract.hooks.SinkHooks` for every hook. Contents are compared by hash of all values, never by
count.
"""

from __future__ import annotations

from wallaby.testing.contract.barriers import BarriersContract
from wallaby.testing.contract.commits import CommitContract, CrashContract, RaceContract
from wallaby.testing.contract.history import HistoryContract
from wallaby.testing.contract.hooks import SinkHooks
from wallaby.testing.contract.identity import IdentityContract
from wallaby.testing.contract.modes import ModesContract
from wallaby.testing.contract.tables import TablesContract
from wallaby.testing.contract.values import ValuesContract


class SinkContract(
    IdentityContract,
    TablesContract,
    CommitContract,
    CrashContract,
    RaceContract,
    ModesContract,
    BarriersContract,
    ValuesContract,
    HistoryContract,
):
    """Everything a destination must do to be called a sink of wallaby."""


__all__ = ["SinkContract", "SinkHooks"]

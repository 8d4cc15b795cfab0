"""Identity: what a sink says about itself before it is open, and that it keeps its word."""

from __future__ import annotations

import dataclasses

import pytest

from wallaby.errors import ConfigError
from wallaby.sink import Capabilities, Guarantee, WriteMode
from wallaby.testing.contract.hooks import SinkHooks


class IdentityContract(SinkHooks):
    """Capabilities are a frozen value, and modes outside them are refused."""

    def test_capabilities_are_known_before_the_sink_is_open_and_never_change(self, mode: WriteMode) -> None:
        sink = self.make_sink(mode=mode)
        before = sink.capabilities
        assert isinstance(before, Capabilities)
        assert sink.commit_interval_ms >= 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.truncate = False  # type: ignore[misc]  # that is the point
        sink.open()
        assert sink.capabilities == before
        sink.close()
        assert sink.capabilities == before

    def test_the_guarantee_follows_from_the_capabilities(self, mode: WriteMode) -> None:
        claims = self.make_sink(mode=mode).capabilities
        if claims.atomic_position:
            assert claims.guarantee is Guarantee.EXACTLY_ONCE
        else:
            assert claims.guarantee is not Guarantee.EXACTLY_ONCE

    def test_the_modes_claimed_are_the_modes_tested(self, mode: WriteMode) -> None:
        assert mode in self.make_sink(mode=mode).capabilities.modes
        assert self.make_sink(mode=mode).capabilities.modes == frozenset(self.modes)

    def test_a_mode_that_is_not_claimed_is_refused(self) -> None:
        for mode in set(WriteMode) - set(self.modes):
            with pytest.raises(ConfigError):
                self.make_sink(mode=mode)

    def test_open_and_close_may_be_called_twice(self, mode: WriteMode) -> None:
        sink = self.make_sink(mode=mode)
        sink.close()
        sink.open()
        sink.open()
        assert not [finding for finding in sink.check() if finding.severity == "error"]
        sink.close()
        sink.close()

"""Temporary files lie in memory only where it does no harm."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.scratch import in_memory, use_memory

ENDLESS = 1 << 60


def test_memory_is_used_only_where_there_is_room_and_memory(tmp_path: Path) -> None:
    assert in_memory(tmp_path, room_bytes_min=0, memory_bytes_min=0) == tmp_path
    assert in_memory(tmp_path, room_bytes_min=ENDLESS, memory_bytes_min=0) is None
    assert in_memory(tmp_path, room_bytes_min=0, memory_bytes_min=ENDLESS) is None
    assert in_memory(tmp_path / "absent", room_bytes_min=0, memory_bytes_min=0) is None


def test_a_place_that_was_chosen_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "unchanged")
    chosen = {"TMPDIR": "/chosen"}
    use_memory(chosen, tmp_path)
    nothing: dict[str, str] = {}
    use_memory(nothing, None)
    assert (chosen, nothing, tempfile.tempdir) == ({"TMPDIR": "/chosen"}, {}, "unchanged")
    use_memory(nothing, tmp_path)
    assert (nothing, tempfile.tempdir) == ({"TMPDIR": str(tmp_path)}, str(tmp_path))

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from wallaby.scratch import ScratchFolder

OWNER = """
import sys
from wallaby.scratch import ScratchFolder
folder = ScratchFolder("wallaby-test-")
(folder.path / "rows").write_text("x")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_each_owner_has_a_folder_of_its_own_until_it_closes_it(place: Path) -> None:
    first, second = ScratchFolder("wallaby-test-"), ScratchFolder("wallaby-test-")
    (first.path / "deep").mkdir()
    assert {*place.iterdir()} == {first.path, second.path}
    first.close()
    first.close()
    assert [*place.iterdir()] == [second.path]
    second.close()
    assert not [*place.iterdir()]


def test_what_a_killed_process_left_goes_when_the_next_folder_is_made(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().decode().strip())
        ScratchFolder("wallaby-test-").close()
        assert [*left.iterdir()], "it is held"
        owner.kill()
    ScratchFolder("wallaby-other-").close()
    assert left.exists(), "of others"
    ScratchFolder("wallaby-test-").close()
    assert not [*place.iterdir()]


def test_files_and_links_of_that_name_stay(place: Path) -> None:
    (place / "wallaby-test-file").write_text("x")
    (place / "mine").mkdir()
    (place / "wallaby-test-link").symlink_to(place / "mine")
    ScratchFolder("wallaby-test-").close()
    assert {entry.name for entry in place.iterdir()} == {"wallaby-test-file", "mine", "wallaby-test-link"}

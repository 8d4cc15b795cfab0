"""Kernels come from one object file where there is one, from numba's cache or compiler where there is none."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from tests.wallaby.pgtypes.test_compiled_cache import COMPILED
from wallaby.pgtypes import compiled, sweep_plan, warm
from wallaby.postgres import drain_kernel

_LAY_OUT = """
import sys, numpy
from wallaby.pgtypes import compiled, sweep_plan, warm
plan = numpy.ones((1, sweep_plan.PLAN_FIELDS), numpy.int64)
print(compiled.is_loaded(), "numba" in sys.modules, sweep_plan.lay_out(plan, 64))
"""
_BYTES_OF_THE_COLUMN = "192"


def _python(*words: str, **variables: str) -> str:
    run = subprocess.run(
        [sys.executable, *words], env={**os.environ, **variables}, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture(scope="module")
def object_file() -> Path:
    """The object file of these sources. It compiles for a minute where nothing did before."""
    said = _python("-m", "wallaby.pgtypes.warm")
    assert said.startswith("kernels ready after ")
    return Path(said.rpartition(" in ")[2])


@pytest.fixture(scope="module")
def function(object_file: Path) -> Callable[[str], Callable[..., Any]]:
    """Kernels of the object file, wherever those of this process come from."""
    loaded = compiled.load_object_file()
    assert loaded is not None
    assert loaded.path == object_file
    return loaded.function


def test_a_process_with_an_object_file_does_without_numba(object_file: Path) -> None:
    assert _python("-c", _LAY_OUT).split() == ["True", "False", _BYTES_OF_THE_COLUMN]


def test_whoever_decodes_and_receives_does_without_numba(object_file: Path) -> None:
    """numba costs every source process a quarter of a second: nothing on its way may import it."""
    modules = (
        "wallaby.pgoutput.copy_decoder, wallaby.pgoutput.decoder, wallaby.postgres.drain_kernel, wallaby.relay.relay"
    )
    assert _python("-c", f"import sys, {modules}; print('numba' in sys.modules)") == "False"


def test_numba_compiles_where_there_is_no_object_file_and_keeps_what_it_compiled(tmp_path: Path) -> None:
    assert _python("-c", _LAY_OUT, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["False", "True", _BYTES_OF_THE_COLUMN]
    assert list(tmp_path.glob("*/sweep_plan.lay_out*.nbc"))


_KERNEL = """
from wallaby.pgtypes.compiled import INT64, called, kernel
@called
def inner():
    return {number}
@kernel(INT64)
def outer():
    return inner()
"""
_CALL = """
import os
from numba.core.caching import IndexDataCacheFile
if {is_killed}:
    IndexDataCacheFile._save_data = lambda *_: os._exit(9)
import sources
print(sources.outer())
"""


def test_code_of_another_source_is_not_run_though_a_process_was_killed_while_it_kept_the_new(tmp_path: Path) -> None:
    """numba writes which source the code is of before the code."""
    source = tmp_path / "sources.py"
    variables = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    source.write_text(_KERNEL.format(number=1111), encoding="utf-8")
    assert _python("-c", _CALL.format(is_killed=False), **variables) == "1111"
    source.write_text(_KERNEL.format(number=2222), encoding="utf-8")
    killed = subprocess.run(
        [sys.executable, "-c", _CALL.format(is_killed=True)], env={**os.environ, **variables}, check=False, timeout=900
    )
    assert killed.returncode == 9
    assert _python("-c", _CALL.format(is_killed=False), **variables) == "2222"


@pytest.mark.parametrize("damage", ["cut off", "one bit", "empty"])
def test_a_damaged_object_file_is_not_loaded(object_file: Path, tmp_path: Path, damage: str) -> None:
    content = bytearray(object_file.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    kept = {"cut off": len(content) // 2, "empty": 0}.get(damage, len(content))
    (tmp_path / object_file.name).write_bytes(content[:kept])
    script = "from wallaby.pgtypes import compiled; print(compiled.is_loaded())"
    assert _python("-c", script, NUMBA_CACHE_DIR=str(tmp_path)) == "False"


def test_an_object_file_in_a_directory_that_cannot_be_written_is_loaded(object_file: Path, tmp_path: Path) -> None:
    (tmp_path / object_file.name).write_bytes(object_file.read_bytes())
    tmp_path.chmod(0o500)
    try:
        assert _python("-c", _LAY_OUT, NUMBA_CACHE_DIR=str(tmp_path)).split()[0] == "True"
    finally:
        tmp_path.chmod(0o700)


def test_settings_of_numba_have_object_files_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = compiled.object_paths()
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1" if os.environ.get("NUMBA_BOUNDSCHECK") != "1" else "0")
    assert not {path.name for path in usual} & {path.name for path in compiled.object_paths()}


@pytest.mark.parametrize("home", ["XDG_CACHE_HOME", "HOME"])
def test_code_is_never_looked_for_in_the_working_directory(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(home, "cache")
    assert all(path.is_absolute() for path in compiled.object_paths())


def test_the_object_file_is_named_by_every_file_with_compiled_functions() -> None:
    assert set(compiled.MODULES) == {module for module in COMPILED if module.startswith("wallaby.")}


@pytest.mark.skipif(not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"), reason="this numba cannot be told to keep none")
def test_kernels_work_where_nothing_can_be_kept() -> None:
    """As with a read-only installation and no home: numba then refuses to compile what asks for its cache."""
    only_notebooks = {"NUMBA_CACHE_LOCATOR_CLASSES": "IPythonCacheLocator"}
    assert _python("-c", _LAY_OUT, **only_notebooks).split() == ["False", "True", _BYTES_OF_THE_COLUMN]


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


_PLAN = np.ones((2, sweep_plan.PLAN_FIELDS), np.int64)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (_PLAN,),
        (_PLAN, 64, 64),
        (None, 64),
        (_PLAN.tolist(), 64),
        (_PLAN.astype(np.int32), 64),
        (_PLAN.astype(np.uint64), 64),
        (_PLAN.astype(np.float64), 64),
        (_PLAN.astype(">i8"), 64),
        (_PLAN[0], 64),
        (_PLAN[None], 64),
        (_PLAN[:, ::2], 64),
        (_PLAN.T, 64),
        (_read_only(_PLAN.copy()), 64),
        (_PLAN.view(np.recarray), 64),
        (_PLAN, "64"),
        (_PLAN, 64.0),
        (_PLAN, None),
    ],
)
def test_a_kernel_of_the_object_file_refuses_what_it_was_not_compiled_for(
    function: Callable[[str], Callable[..., Any]], arguments: tuple[Any, ...]
) -> None:
    lay_out = function("wallaby.pgtypes.sweep_plan.lay_out")
    with pytest.raises(TypeError):
        lay_out(*arguments)


def test_a_kernel_of_the_object_file_refuses_numbers_of_more_than_64_bits(
    function: Callable[[str], Callable[..., Any]],
) -> None:
    with pytest.raises(OverflowError):
        function("wallaby.pgtypes.sweep_plan.lay_out")(_PLAN.copy(), 2**63)


def test_a_kernel_of_the_object_file_takes_what_numba_takes(function: Callable[[str], Callable[..., Any]]) -> None:
    lay_out = function("wallaby.pgtypes.sweep_plan.lay_out")
    for plan in (_PLAN.copy(), np.ones(_PLAN.shape, np.longlong), np.ones(_PLAN.shape, "<i8")):
        for rows in (64, np.int64(64), np.int32(64)):
            assert lay_out(plan, rows) == 2 * int(_BYTES_OF_THE_COLUMN)
            assert plan[1, sweep_plan.VALID_AT] == int(_BYTES_OF_THE_COLUMN)


def test_read_only_bytes_and_three_results_pass_through_the_object_file(
    function: Callable[[str], Callable[..., Any]],
) -> None:
    release = function("wallaby.pgoutput.spool_kernel.release")
    out, none = np.zeros(8, np.uint8), np.zeros(0, np.int64)
    assert release(_read_only(np.zeros(8, np.uint8)), 8, 8, True, none, out, 3) == (8, 3, 0)


@pytest.mark.parametrize("where", ["object file", "this process"])
def test_kernels_run_without_the_interpreter_lock(function: Callable[[str], Callable[..., Any]], where: str) -> None:
    """The drain calls what it is given as libpq's functions: here ``abs`` of 0, and CPython's own look at its lock."""
    address = ctypes.cast(ctypes.pythonapi.PyGILState_Check, ctypes.c_void_p).value
    nothing = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value
    functions = np.array([nothing, address, nothing], np.int64)
    state = np.zeros(drain_kernel.STATE_SLOTS, np.int64)
    drain = function("wallaby.postgres.drain_kernel.drain") if where == "object file" else drain_kernel.drain
    drain(functions, 0, np.zeros(64, np.uint8), 0, np.zeros(1, np.int64), state, 1)
    # The lock was not held: 0, which is libpq's word for a connection that broke.
    assert state[drain_kernel.OUTCOME] == drain_kernel.ENDED


def test_references_to_arguments_and_results_of_the_object_file_are_balanced(
    function: Callable[[str], Callable[..., Any]],
) -> None:
    lay_out, order = (
        function(f"wallaby.{name}") for name in ("pgtypes.sweep_plan.lay_out", "pgoutput.kernel.order_by_table")
    )
    plan, rows, starts = _PLAN.copy(), np.zeros(4, np.int32), np.zeros(2, np.int32)
    before = [sys.getrefcount(one) for one in (plan, rows, starts, None)]
    for _ in range(1000):
        lay_out(plan, 64)
        starts[:] = 0
        assert order(rows, starts, np.zeros(4, np.int32)) is None
        with pytest.raises(TypeError):
            lay_out(rows, 64)
    after = [sys.getrefcount(one) for one in (plan, rows, starts, None)]
    assert all(abs(now - then) < 100 for now, then in zip(after, before, strict=True))


def test_warm_makes_nothing_where_everything_is_there(object_file: Path) -> None:
    made = object_file.stat().st_mtime_ns
    assert _python("-m", "wallaby.pgtypes.warm").endswith(f" in {object_file}")
    assert object_file.stat().st_mtime_ns == made


def test_the_object_file_is_kept_wherever_it_can_be_written(tmp_path: Path) -> None:
    """A file in the place of a directory refuses root, too."""
    (tmp_path / "file").touch()
    refused, taken, other = tmp_path / "file" / "a.kernels", tmp_path / "new" / "a.kernels", tmp_path / "b.kernels"
    assert warm.keep(b"kernels", [refused, taken, other]) == taken
    assert [path.name for path in taken.parent.iterdir()] == ["a.kernels"]
    assert taken.read_bytes() == other.read_bytes() == compiled.seal(b"kernels")
    assert warm.keep(b"kernels", [refused]) is None


def test_object_files_of_former_states_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(warm.KEPT_MAX + 3):
        path = tmp_path / f"{number:02d}.kernels"
        warm.keep(b"kernels", [path])
        os.utime(path, ns=(number, number))
    newest = tmp_path / "newest.kernels"
    warm.keep(b"kernels", [newest])
    assert newest.exists()
    assert len([*tmp_path.iterdir()]) == warm.KEPT_MAX


def test_code_that_others_may_have_written_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    [path] = compiled.object_paths()
    usual = _python("-m", "wallaby.pgtypes.warm", NUMBA_CACHE_DIR="")
    path.write_bytes(Path(usual.rpartition(" in ")[2]).read_bytes())
    for mode, is_run in ((0o666, False), (0o664, False), (0o644, True)):
        path.chmod(mode)
        assert (compiled.load_object_file() is not None) is is_run, oct(mode)


def test_a_kernel_outlives_what_loaded_it(object_file: Path) -> None:
    """Machine code that is freed under a function ends the process, so this runs in one of its own."""
    said = _python(
        "-c",
        "import gc, numpy; from wallaby.pgtypes import compiled, sweep_plan\n"
        "kernel = compiled.load_object_file().function('wallaby.pgtypes.sweep_plan.lay_out')\n"
        "gc.collect(); print(kernel(numpy.ones((1, sweep_plan.PLAN_FIELDS), numpy.int64), 64))",
    )
    assert said == _BYTES_OF_THE_COLUMN

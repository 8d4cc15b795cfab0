"""Completion scripts: every command and flag is offered by the shell itself where that shell is at hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.cli import _parser as whole_parser
from wallaby.cli.completion import SHELLS, commands_of, script

PARSER = whole_parser()


def complete(tmp_path: Path, line: str) -> set[str]:
    """What bash offers at the end of a line."""
    (tmp_path / "completion").write_text(script(PARSER, "bash"))
    words = line.split(" ")
    program = f"""
source {tmp_path}/completion
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
_wallaby
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc", "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    return set(done.stdout.split())


def test_every_command_is_completed_by_bash(tmp_path: Path) -> None:
    for command in commands_of(PARSER):
        line = f"wallaby {command.words}".rstrip()
        if command.commands:
            assert complete(tmp_path, f"{line} ") == {name for name, _ in command.commands}
        assert complete(tmp_path, f"{line} --") == {flag for flag, _ in command.flags if flag.startswith("--")}


def test_a_beginning_is_completed_past_flags_and_their_values(tmp_path: Path) -> None:
    assert complete(tmp_path, "wallaby flow st") == {"start", "stop", "status"}
    assert complete(tmp_path, "wallaby flow list --page-size 5 --pre") == {"--pretty"}
    assert complete(tmp_path, "wallaby completion ") == set(SHELLS)
    (tmp_path / "shop.yaml").write_text("")
    assert complete(tmp_path, "wallaby check sho") == {"shop.yaml"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_everything_and_the_shell_can_read_it(tmp_path: Path, shell: str) -> None:
    text = script(PARSER, shell)
    for command in commands_of(PARSER):
        assert command.words in text
    assert "run-once" in text
    assert "prune" in text
    (tmp_path / "script").write_text(text)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: the script was made, but nobody read it")
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)

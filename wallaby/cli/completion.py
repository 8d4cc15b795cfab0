"""``wallaby completion bash|zsh|fish``: a script for the shell, made from the parsers, that completes without wallaby.

Every command and every flag is in the script; where a flag takes a file, or nothing else fits, files are offered.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.commands import add_command

if TYPE_CHECKING:
    from wallaby.cli.report import Report

SHELLS: Final = ("bash", "zsh", "fish")


def register(subparsers: Any) -> None:
    """Add the command. It needs the whole parser, which `script` is given by the entry point's."""
    parser = add_command(subparsers, "completion", "print a completion script", _print)
    parser.add_argument("shell", choices=SHELLS, help="for which shell")


def _print(arguments: argparse.Namespace, report: Report) -> int:
    report.text(script(arguments.whole_parser, arguments.shell))
    return 0


@dataclass(frozen=True, slots=True)
class Command:
    """A command as typed (``flow list``; empty: the program itself) and what may follow it."""

    words: str
    commands: tuple[tuple[str, str], ...]
    """Name and help of each command below it."""
    flags: tuple[tuple[str, str], ...]
    choices: tuple[str, ...] = ()
    """Values of a positional argument that has a fixed set."""


def commands_of(parser: argparse.ArgumentParser) -> list[Command]:
    """Every command of a parser, the program itself first."""
    return list(_walk(parser, ""))


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of a parser for one of `SHELLS`."""
    make = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return make(parser.prog, commands_of(parser))


def _walk(parser: argparse.ArgumentParser, words: str) -> Iterator[Command]:
    below: dict[str, argparse.ArgumentParser] = {}
    helps: dict[str, str] = {}
    flags: list[tuple[str, str]] = []
    choices: tuple[str, ...] = ()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        elif action.option_strings:
            text = "" if action.help == argparse.SUPPRESS else action.help or ""
            flags += [(flag, text) for flag in action.option_strings if flag.startswith("--") or len(flag) == 2]
        elif action.choices:
            choices = tuple(map(str, action.choices))
    yield Command(words, tuple((name, helps.get(name, "")) for name in below), tuple(flags), choices)
    for name, child in below.items():
        yield from _walk(child, f"{words} {name}".strip())


def _bash(program: str, commands: list[Command]) -> str:
    function = f"_{program.replace('-', '_')}"
    cases: list[str] = []
    for command in commands:
        words = " ".join((*(name for name, _ in command.commands), *command.choices))
        flags = " ".join(flag for flag, _ in command.flags)
        cases.append(f'        "{command.words}") words="{words}" flags="{flags}" ;;')
    names = "|".join(f'"{command.words}"' for command in commands if command.words)
    return "\n".join(
        [
            f"# bash completion of {program}: source it, or put it into the bash-completion directory.",
            f"{function}() {{",
            '    local current="${COMP_WORDS[COMP_CWORD]}" path="" words="" flags="" i',
            "    for ((i = 1; i < COMP_CWORD; i++)); do",
            '        case "${path:+$path }${COMP_WORDS[i]}" in',
            f'            {names}) path="${{path:+$path }}${{COMP_WORDS[i]}}" ;;',
            "        esac",
            "    done",
            '    case "$path" in',
            *cases,
            "    esac",
            '    if [[ "$current" == -* ]]; then',
            '        COMPREPLY=($(compgen -W "$flags" -- "$current"))',
            '    elif [[ -n "$words" ]]; then',
            '        COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "    else",
            '        COMPREPLY=($(compgen -f -- "$current"))',
            "    fi",
            "}",
            f"complete -o filenames -F {function} {program}",
            "",
        ]
    )


def _zsh(program: str, commands: list[Command]) -> str:
    function = f"_{program.replace('-', '_')}"
    cases: list[str] = []
    for command in commands:
        words = [f"'{name}:{_plain(text)}'" for name, text in command.commands]
        words += [f"'{choice}'" for choice in command.choices]
        flags = [f"'{flag}:{_plain(text)}'" for flag, text in command.flags]
        cases.append(f"        '{command.words}') words=({' '.join(words)}) flags=({' '.join(flags)}) ;;")
    names = "|".join(f"'{command.words}'" for command in commands if command.words)
    return "\n".join(
        [
            f"#compdef {program}",
            f"{function}() {{",
            '    local current_path="" word i',
            "    local -a words_before=(${words[2,CURRENT-1]}) flags",
            "    local current=$words[CURRENT]",
            "    for word in $words_before; do",
            '        case "${current_path:+$current_path }$word" in',
            f'            {names}) current_path="${{current_path:+$current_path }}$word" ;;',
            "        esac",
            "    done",
            "    local -a words",
            '    case "$current_path" in',
            *cases,
            "    esac",
            "    if [[ $current == -* ]]; then",
            "        _describe 'flag' flags",
            "    elif (( $#words )); then",
            "        _describe 'command' words",
            "    else",
            "        _files",
            "    fi",
            "}",
            f"compdef {function} {program}",
            "",
        ]
    )


def _fish(program: str, commands: list[Command]) -> str:
    lines = [f"# fish completion of {program}: put it into ~/.config/fish/completions/{program}.fish"]
    for command in commands:
        condition = f"__{program.replace('-', '_')}_at '{command.words}'"
        for name, text in (*command.commands, *((choice, "") for choice in command.choices)):
            lines.append(f"complete -c {program} -f -n \"{condition}\" -a '{name}' -d '{_plain(text)}'")
        for flag, text in command.flags:
            name = f"-l '{flag[2:]}'" if flag.startswith("--") else f"-s '{flag[1:]}'"
            lines.append(f"complete -c {program} -n \"{condition}\" {name} -d '{_plain(text)}'")
    known = " ".join(f"'{command.words}'" for command in commands if command.words)
    lines[1:1] = [
        f"function __{program.replace('-', '_')}_at",
        "    set -l path ''",
        "    for word in (commandline -opc)[2..-1]",
        '        set -l longer (string trim "$path $word")',
        f'        contains -- "$longer" {known}; and set path "$longer"',
        "    end",
        '    test "$path" = "$argv[1]"',
        "end",
    ]
    return "\n".join((*lines, ""))


def _plain(text: str) -> str:
    """Help text as it may stand between single quotes of any of the shells."""
    return text.replace("'", "").replace(":", " ").replace("\\", "").replace("%", "").replace("`", "").replace('"', "")

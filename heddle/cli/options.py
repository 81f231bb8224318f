"""What several commands' parsers share."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from heddle.errors import OperationError

# As Debian sets it for sudo.
_SUDO_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def describe(parser: argparse.ArgumentParser, text: str, *examples: tuple[str, str]) -> None:
    """Give a command its description and its examples: (command, what it does)."""
    parser.description = text
    width = max(len(command) for command, _ in examples)
    lines = (f"  {command:<{width}}  {does}" for command, does in examples)
    parser.epilog = "examples:\n" + "\n".join(lines)


def add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    *examples: tuple[str, str],
) -> argparse.ArgumentParser:
    """An action of a command that has several, such as ``heddle vm list``."""
    parser = actions.add_parser(
        name,
        help=summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    describe(parser, f"{summary[0].upper()}{summary[1:]}.", *examples)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_timeout(parser: argparse.ArgumentParser, seconds: int, what: str) -> None:
    parser.add_argument(
        "--timeout",
        type=float,
        default=seconds,
        metavar="SECONDS",
        help=f"how long to wait until {what} (default: {seconds})",
    )


def require_root(command: str) -> None:
    """Say once, before anything is touched, that a command needs root."""
    if os.geteuid() != 0:
        raise OperationError(f"{command} needs root: try `sudo {_invocation()}`")


def become(argv: list[str], package: str) -> NoReturn:
    """Replace this process, so that terminal, signals and exit code need no help.

    ``package`` is what to install when the program is missing.
    """
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        remedy = f"apt-get install {package}"
        raise OperationError(f"{argv[0]}: {error.strerror}; {remedy}") from error


def _invocation() -> str:
    """This command, with the path of the program where sudo would not find it by name."""
    from shlex import join

    program = Path(sys.argv[0])
    is_found = program.name != "heddle" or str(program.parent) in _SUDO_PATH
    return join(["heddle" if is_found else str(program), *sys.argv[1:]])

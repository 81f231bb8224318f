"""The heddle command: a table of subcommands, each a module loaded when used.

argparse from the standard library, not a framework: a read command has to
answer within 0.3 s, of which importing typer with rich takes 70 ms.

A command module offers ``configure(parser)`` and ``run(arguments) -> exit code``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, Protocol, cast

from heddle import __version__
from heddle.cli.brevity import brief
from heddle.errors import HeddleError

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_WRONG_REQUEST = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Command(NamedTuple):
    """A line of the table: the module under heddle.cli and what it is for."""

    module: str
    summary: str


class CommandModule(Protocol):
    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


COMMANDS = {
    "up": Command("up", "make a topology file real: start the agent, boot the machines, wait"),
    "apply": Command("apply", "change intent to what a topology file says"),
    "down": Command("down", "remove what a topology file owns, or everything"),
    "show": Command("show", "list objects with their state"),
    "exec": Command("exec_", "run a command in a machine"),
    "vm": Command("vm", "list, start, stop and enter virtual machines"),
    "migrate": Command("migrate", "move a running VM to another host"),
    "clone": Command("clone", "run a second copy of networks and all that is in them"),
    "trace": Command("trace", "say what would happen to a packet, stage by stage"),
    "drops": Command("drops", "why packets were dropped, by port"),
    "top": Command("top", "live traffic rates by port"),
    "leaks": Command("leaks", "ways in which guests could learn of the physical network"),
    "doctor": Command("doctor", "what this kernel and machine can do"),
    "lab": Command("lab", "many hosts on this machine, to try things: up, down, cut, heal, exec"),
    "libvirt-hook": Command("libvirt_hook", "let libvirt ask before a VM comes to this host"),
    "agent": Command("agent", "run the daemon of this host"),
}

_EPILOG = """\
examples:
  heddle up examples/two-subnets.yaml    a network with two machines, running
  heddle show                            what there is, and how it is
  heddle trace vm0 vm1 --tcp 80          the way of a packet
  heddle down                            take everything away again

`heddle COMMAND --help` has the options and examples of each command.
Exit codes: 0 done, 1 it failed, 2 the request was wrong.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see entry.py
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except HeddleError as error:
        for line in str(error).splitlines():  # a wrong file may have several problems
            print(f"heddle: {brief(line)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nheddle: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain on exit when
        # it flushes, so give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except OSError as error:  # such as a full disk behind standard output
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"heddle: {brief(what)}", file=sys.stderr)
        return EXIT_FAILED


class Parser(argparse.ArgumentParser):
    """Wrong words are said back, but not all of very long ones."""

    def error(self, message: str) -> NoReturn:
        super().error(brief(message))


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one subcommand."""
    parser = Parser(
        prog=f"heddle {name}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _load(name).configure(parser)
    return parser


def top_parser() -> argparse.ArgumentParser:
    """The parser of the bare command; it knows subcommands by name only."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    parser = Parser(
        prog="heddle",
        usage="heddle [--version] [--help] COMMAND ...",
        description="A virtual switch and router for the machines of this host.\n\ncommands:\n"
        + "\n".join(lines),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"heddle {__version__}")
    return parser


def _dispatch(words: list[str]) -> int:
    if words and words[0] in COMMANDS:
        arguments = command_parser(words[0]).parse_args(words[1:])
        return _load(words[0]).run(arguments)
    parser = top_parser()
    if not words:
        parser.print_help(sys.stderr)
        return EXIT_WRONG_REQUEST
    parser.parse_known_args(words)  # --help and --version end here
    parser.error(f"no command {words[0]!r}; `heddle --help` lists them")


def _load(name: str) -> CommandModule:
    module = importlib.import_module(f"heddle.cli.{COMMANDS[name].module}")
    return cast(CommandModule, module)


if __name__ == "__main__":
    sys.exit(main())

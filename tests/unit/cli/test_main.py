"""The frame of the command line: help, exit codes, messages."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heddle import __version__
from heddle.cli import main as cli
from heddle.cli.brevity import brief
from heddle.cli.main import COMMANDS, command_parser, main, top_parser
from heddle.errors import OperationError, TopologyError

# What a read command must not import: each costs about a third of its time.
HEAVY = {"pydantic", "libvirt", "yaml", "asyncio", "heddle.compiler.state"}
READ_COMMANDS = ("show", "drops", "top", "trace", "vm", "doctor")


@pytest.fixture(autouse=True)
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEDDLE_ROOT", str(tmp_path))
    monkeypatch.setenv("HEDDLE_HOST", "unit-test")
    return tmp_path


def with_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser, and those of the actions that it has, such as ``vm list``."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from with_actions(inner)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_action_explains_itself(name: str) -> None:
    for parser in with_actions(command_parser(name)):
        text = parser.format_help()
        assert text.startswith(f"usage: {parser.prog} ")
        assert parser.description
        examples = re.findall(r"^  (heddle .*?)(?:  +|$)", text, re.MULTILINE)
        assert examples, parser.prog
        for example in examples:
            assert example.startswith(parser.prog)
            command_parser(name).parse_args(shlex.split(example)[2:])


@pytest.mark.parametrize(
    "command", ["show", "drops", "top", "trace", "leaks", "doctor", "vm list", "lab list"]
)
def test_what_reads_can_speak_json(command: str) -> None:
    name = command.split(maxsplit=1)[0]
    parsers = {parser.prog: parser for parser in with_actions(command_parser(name))}
    assert "--json" in parsers[f"heddle {command}"].format_help()


def test_the_top_lists_all_commands() -> None:
    text = top_parser().format_help()
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", text, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"heddle {__version__}\n"


def test_without_a_command_it_explains_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["fly"], ["show", "clouds"], ["trace", "a", "b", "--tcp", "0"]])
def test_a_wrong_request_is_exit_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (OperationError("the disk is full"), 1, ["heddle: the disk is full"]),
        (TopologyError("a:1: one\na:2: two"), 2, ["heddle: a:1: one", "heddle: a:2: two"]),
        (KeyboardInterrupt(), 130, ["", "heddle: interrupted"]),
        (OSError(28, "No space left"), 1, ["heddle: [Errno 28] No space left"]),
    ],
)
def test_an_error_is_a_line_and_a_code(
    error: BaseException,
    code: int,
    lines: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert main(["show"]) == code
    captured = capsys.readouterr()
    assert captured.err.splitlines() == lines
    assert captured.out == ""


LONG = "x" * 10_000


@pytest.mark.parametrize(
    "words",
    [[LONG], ["show", LONG], ["down", LONG], ["apply", LONG], ["vm", "start", LONG]],
)
def test_a_very_long_word_is_not_said_back(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with contextlib.suppress(SystemExit):
        assert main(words) == 2
    error = capsys.readouterr().err
    assert "x" * 60 in error
    assert all(len(line) < 700 for line in error.splitlines())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("short; mend it", "short; mend it"),
        (f'a:3: network "{LONG}", cidr: bad', f'"{"x" * 79}...(9921 characters more)", cidr: bad'),
        (f"no port '{LONG}'; there is: p1", "characters more)'; there is: p1"),
        ("x y " * 3000 + "; mend it", "characters more)..."),
        ("x y " * 3000 + "; mend it", "x y ; mend it"),
    ],
)
def test_long_values_are_cut_and_the_remedy_stays(line: str, expected: str) -> None:
    assert expected in brief(line)
    assert len(brief(line)) < 1600


@pytest.mark.parametrize("name", ["up", "apply"])
def test_a_missing_file_is_said_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert main([name, "no-such-file.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("heddle: no-such-file.yaml")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["up", "x.yaml"], ["apply", "x.yaml"], ["down"], ["drops"], ["agent"], ["top"]]
)
def test_without_root_it_says_so(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(words) == 1
    assert re.fullmatch(r"heddle: .* needs root: try `sudo heddle .*`\n", capsys.readouterr().err)


def test_what_sudo_would_not_find_has_its_path(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for program, said in (("/usr/bin/heddle", "heddle"), (".venv/bin/heddle", ".venv/bin/heddle")):
        monkeypatch.setattr(sys, "argv", [program, "up", "my lab.yaml"])
        assert main() == 1
        assert f"try `sudo {said} up 'my lab.yaml'`" in capsys.readouterr().err


def test_interrupted_while_it_loads_it_says_nothing() -> None:
    """Once loaded, main says in words what happened."""
    # In the background a shell lets its children ignore Ctrl-C, and the tests with them.
    begin = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script = f"{begin}import heddle.cli.entry; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
    script = f"""{begin}
import heddle.cli.entry, heddle.cli.main
heddle.cli.main._dispatch = lambda words: os.kill(os.getpid(), signal.SIGINT)
sys.exit(heddle.cli.entry.run())
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (130, b"\nheddle: interrupted\n")


@pytest.mark.parametrize("name", READ_COMMANDS)
def test_read_commands_import_nothing_heavy(name: str) -> None:
    script = f"""
import sys
import heddle.cli.main as cli
cli.command_parser({name!r})
import heddle.cli.view, heddle.datapath.trace, heddle.events.counters
print(*sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout == b"\n"


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m heddle.cli.main --help | head -c 1"
    done = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True)
    assert done.stdout == "u"
    assert done.stderr == ""

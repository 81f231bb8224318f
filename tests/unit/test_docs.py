"""What the documents say is so: links lead somewhere, commands and options
exist, topologies load, and the table of drop reasons is complete."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import heddle
from heddle.cli.main import COMMANDS, command_parser, top_parser
from heddle.events import reasons
from heddle.intent.topology import load_topology

CHECKOUT = Path(heddle.__file__).parent.parent
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")])

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`((?:\.venv/bin/)?heddle [a-z][^`]*|scripts/[a-z][^`]*)`")


def blocks(page: Path, language: str) -> Iterator[str]:
    return (text for found, text in BLOCK.findall(page.read_text()) if found == language)


def commands(page: Path) -> Iterator[str]:
    """Lines after a prompt in console blocks."""
    for block in blocks(page, "console"):
        yield from re.findall(r"^[#$] (.*)$", block, re.MULTILINE)


def mentions(page: Path) -> Iterator[str]:
    """Commands in the text."""
    return iter(INLINE.findall(page.read_text()))


def _every(find: Callable[[Path], Iterable[str]]) -> list[object]:
    """Parameters of one test over all pages, each named by its page."""
    return [
        pytest.param(item, id=f"{page.relative_to(CHECKOUT)}-{number}")
        for page in PAGES
        for number, item in enumerate(find(page))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    missing = [link for link in targets if not _leads_somewhere(page, link)]
    assert missing == []


def test_every_page_is_in_the_index() -> None:
    index = CHECKOUT / "docs/README.md"
    assert {page.name for page in index.parent.glob("*.md")} - {index.name} <= set(
        LINK.findall(index.read_text())
    )


@pytest.mark.parametrize("line", _every(commands))
def test_commands_would_be_accepted(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0].endswith("heddle"):
        _parse_heddle(words[1:])
    elif words[0].startswith("scripts/"):
        assert (CHECKOUT / words[0]).stat().st_mode & 0o100, f"{words[0]} can't be run"


@pytest.mark.parametrize("mention", _every(mentions))
def test_mentioned_commands_exist(mention: str) -> None:
    words = shlex.split(mention)
    if words[0].endswith("heddle") and len(words) == 2:  # a mere name
        assert words[1] in COMMANDS
    else:
        test_commands_would_be_accepted(mention)


@pytest.mark.parametrize("text", _every(lambda page: blocks(page, "yaml")))
def test_topologies_load(text: str, tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(text)
    load_topology(file)


def test_commands_are_documented() -> None:
    page = (CHECKOUT / "docs/commands.md").read_text()
    assert [name for name in COMMANDS if f"heddle {name}" not in page] == []


def test_every_drop_reason_is_explained() -> None:
    header = (CHECKOUT / "bpf/shared/abi.h").read_text()
    names = re.findall(r"^\tDROP_(\w+)", header, re.MULTILINE)
    assert names[0] == "NONE"
    assert names[-1] == "REASON_COUNT"
    assert list(reasons.REASONS) == names[1:-1]
    assert reasons.explain("DROP_NO_ROUTE") == reasons.explain("NO_ROUTE")


def test_drops_page_is_made_from_the_table() -> None:
    assert (CHECKOUT / "docs/drops.md").read_text() == reasons.page()


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
    return not anchor or anchor in map(_anchor, headings)


def _anchor(heading: str) -> str:
    """As GitHub makes it from a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _parse_heddle(words: list[str]) -> None:
    """Fails, as argparse does, on what the command line would refuse."""
    if words[0].startswith("-"):
        with pytest.raises(SystemExit) as end:
            top_parser().parse_args(words)
        assert end.value.code == 0
        return
    assert words[0] in COMMANDS
    command_parser(words[0]).parse_args(words[1:])

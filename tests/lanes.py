"""Runs test files beside each other: ``-p tests.lanes --lanes N``.

The lanes are forked once all tests are collected, and each takes the next file when it is
done with one. A lane is to a test what a run of its own is: one thread, fixtures of a module
per file, and as long to clean up after Ctrl-C as it takes. (Workers of pytest-xdist have a
second thread, other arguments and ten seconds for that, and each collects all tests.)
What the lanes find is told by the process that they came from, a whole file at a time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from itertools import groupby, takewhile
from multiprocessing.connection import Connection, Pipe, wait
from types import FrameType
from typing import Any, NoReturn

import pytest
from _pytest.runner import pytest_sessionfinish as end_fixtures
from _pytest.runner import runtestprotocol

_INDEX_BYTES = 4
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
Message = int | list[Any]  # the test that begins, as an index; then its reports


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lanes", type=int, default=1, help="how many files to run at once")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    option = session.config.option
    if option.lanes < 2 or option.collectonly or session.testsfailed:
        return None  # pytest's own loop
    _Lanes(session).run(option.lanes)
    return True


class _Lane:
    """A lane as its parent sees it."""

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid = pid
        self.connection = connection
        self.begun: list[pytest.Item] = []  # of one file, not told yet
        self.reports: list[list[Any]] = []  # of those of them that have ended


class _Lanes:
    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._lanes: dict[Connection, _Lane] = {}
        self._dead: list[str] = []

    def run(self, count: int) -> None:
        queue = _queue_of_files(self._session.items)
        # One folder for the temporary files of all, with the parent's lifetime.
        self._session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        try:
            for _ in range(count):
                self._fork(queue)
            while self._lanes:
                self._listen()
                self._heed()
        except BaseException:
            self._interrupt()
            raise
        if self._dead:
            self._session.shouldfail = "; ".join(self._dead)
            self._heed()

    def _fork(self, queue: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = Pipe(duplex=False)
        pid = os.fork()
        if pid == 0:
            _live(self._session, queue, theirs)
        theirs.close()
        self._lanes[ours] = _Lane(pid, ours)

    def _listen(self) -> None:
        """To whatever comes next."""
        for connection in wait(list(self._lanes)):
            assert isinstance(connection, Connection)
            self._hear(self._lanes[connection])

    def _hear(self, lane: _Lane) -> None:
        try:
            message: Message = lane.connection.recv()
        except EOFError:
            self._end(lane)
            return
        if isinstance(message, list):
            lane.reports.append(message)
            return
        item = self._session.items[message]
        if lane.begun and lane.begun[-1].path != item.path:
            self._tell(lane)
        lane.begun.append(item)

    def _tell(self, lane: _Lane) -> None:
        """Let pytest see the reports about a file."""
        config = self._session.config
        for item, reports in zip(lane.begun, lane.reports, strict=False):
            place = {"nodeid": item.nodeid, "location": item.location}
            item.ihook.pytest_runtest_logstart(**place)
            for data in reports:
                report = config.hook.pytest_report_from_serializable(config=config, data=data)
                item.ihook.pytest_runtest_logreport(report=report)
            item.ihook.pytest_runtest_logfinish(**place)
        lane.begun.clear()
        lane.reports.clear()

    def _heed(self) -> None:
        """What pytest makes of the reports, with --exitfirst for example."""
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _end(self, lane: _Lane) -> None:
        del self._lanes[lane.connection]
        lane.connection.close()
        _, status = os.waitpid(lane.pid, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            where = lane.begun[-1].nodeid if lane.begun else "its beginning"
            self._dead.append(f"a lane ended with exit code {code} at {where}")
        self._tell(lane)

    def _interrupt(self) -> None:
        """Let all lanes clean up, or end them when we may not wait for that."""
        try:
            for lane in self._lanes.values():
                os.kill(lane.pid, signal.SIGINT)
            while self._lanes:
                self._listen()
        finally:
            for lane in self._lanes.values():
                os.kill(lane.pid, signal.SIGKILL)


def _queue_of_files(items: Sequence[pytest.Item]) -> int:
    """A pipe of indices of first tests of files, from which all lanes read."""
    reading, writing = os.pipe()
    numbers = range(len(items))
    firsts = [next(group) for _, group in groupby(numbers, lambda number: items[number].path)]
    os.write(writing, b"".join(first.to_bytes(_INDEX_BYTES) for first in firsts))
    os.close(writing)
    return reading


# ---- in a lane --------------------------------------------------------------


def _live(session: pytest.Session, queue: int, parent: Connection) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGINT, _interrupt_once)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)  # also when the parent is killed
        _capture_alone(session.config)
        session.config.pluginmanager.register(_Teller(session, parent))
        _run(session, queue)
        status = 0
    except (KeyboardInterrupt, BrokenPipeError):
        status = 0  # as wished, or nobody is left to be told
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _run(session: pytest.Session, queue: int) -> None:
    try:
        while claimed := os.read(queue, _INDEX_BYTES):
            _run_file(session, int.from_bytes(claimed))
    finally:
        end_fixtures(session)


def _run_file(session: pytest.Session, first: int) -> None:
    """The tests from an index on that are in the same file."""
    path = session.items[first].path
    tests = list(takewhile(lambda item: item.path == path, session.items[first:]))
    # Which file is next shows when this one is done: fixtures of the session alone stay.
    for item, following in zip(tests, [*tests[1:], session], strict=True):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


class _Teller:
    """Tells the parent instead of this process's own plugins."""

    def __init__(self, session: pytest.Session, parent: Connection) -> None:
        self._numbers = {item: number for number, item in enumerate(session.items)}
        self._parent = parent

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        self._parent.send(self._numbers[item])
        told = item.config.hook.pytest_report_to_serializable
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        self._parent.send([told(config=item.config, report=report) for report in reports])
        return True


def _interrupt_once(_signal: int, _frame: FrameType | None) -> None:
    """A terminal tells parent and lane, and the parent tells the lane again, which
    must not end its cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _capture_alone(config: pytest.Config) -> None:
    """Lanes must not share a file for what tests print, with one place in it."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture()

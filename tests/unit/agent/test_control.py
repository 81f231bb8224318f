"""The control socket, spoken to by the real client."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from heddle.agent.client import AgentClient, agent_pid
from heddle.agent.control import ControlServer
from heddle.agent.facts import Fact, Key
from heddle.errors import AgentError
from heddle.paths import agent_socket


class Stub:
    """What the control socket asks of an agent."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.streams = 0

    def describe(self) -> dict[str, Any]:
        return {"revision": 7}

    def paths(self) -> dict[str, Any]:
        return {"host": "h1", "paths": []}

    def reconcile(self) -> int:
        self.asked.append("reconcile")
        return 3

    def stop(self) -> None:
        self.asked.append("stop")

    async def follow_facts(self) -> AsyncIterator[dict[Key, Fact | None]]:
        yield {("port", "p"): {"state": "down"}}
        yield {("port", "p"): None}
        await self._for_ever()

    async def follow_events(self) -> AsyncIterator[dict[str, Any]]:
        yield {"reason": "NO_ROUTE"}
        await self._for_ever()

    async def _for_ever(self) -> None:
        self.streams += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.streams -= 1


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    monkeypatch.setenv("HEDDLE_ROOT", str(tmp_path))
    return Stub()


@contextmanager
def served(stub: Stub) -> Iterator[None]:
    """The stub's socket, served by a thread while the block runs."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(ControlServer(stub, agent_socket()).serve())

    def serve() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            loop.run_until_complete(loop.shutdown_asyncgens())

    thread = threading.Thread(target=serve)
    thread.start()
    eventually(lambda: agent_pid() is not None)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_requests_are_answered(stub: Stub) -> None:
    with served(stub), AgentClient() as client:
        assert client.request("ping")["pid"] == os.getpid()
        assert client.request("status")["revision"] == 7
        assert client.request("reconcile")["look"] == 3
        client.request("stop")
    assert stub.asked == ["reconcile", "stop"]


def test_the_socket_is_for_its_owner_alone(stub: Stub) -> None:
    with served(stub):
        assert stat.S_IMODE(agent_socket().stat().st_mode) == 0o600
    assert not agent_socket().exists()


def test_a_dead_agents_socket_is_replaced(stub: Stub) -> None:
    agent_socket().parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(agent_socket()))
    assert agent_pid() is None
    with served(stub):
        assert agent_pid() == os.getpid()


def test_streams_flow_until_the_reader_leaves(stub: Stub) -> None:
    with served(stub):
        with AgentClient() as client:
            stream = client.stream("facts", time.monotonic() + 60)
            assert next(stream)["facts"] == [["port", "p", {"state": "down"}]]
            assert next(stream)["facts"] == [["port", "p", None]]
            eventually(lambda: stub.streams == 1)
        eventually(lambda: stub.streams == 0)
        with AgentClient() as client:
            assert next(client.stream("events"))["reason"] == "NO_ROUTE"


def test_a_stream_has_a_deadline(stub: Stub) -> None:
    with served(stub), AgentClient() as client:
        stream = client.stream("events", time.monotonic() + 0.2)
        with pytest.raises(TimeoutError):
            list(stream)


def test_a_stream_tells_of_silence_when_asked_to(stub: Stub) -> None:
    with served(stub), AgentClient() as client:
        stream = client.stream("events", pause=0.05)
        assert next(stream)["reason"] == "NO_ROUTE"
        assert [next(stream), next(stream)] == [{}, {}]


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b"{}\n", b'{"op": "fly"}\n'])
def test_what_is_no_request_is_refused(stub: Stub, line: bytes) -> None:
    with served(stub), socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(60)
        raw.connect(str(agent_socket()))
        raw.sendall(line)
        answer = json.loads(raw.recv(1000))
        assert answer["ok"] is False
        raw.sendall(b'{"op": "ping"}\n')
        assert json.loads(raw.recv(1000))["ok"] is True, "the connection must go on"


def test_a_refusal_is_an_error_for_the_client(stub: Stub) -> None:
    with served(stub), AgentClient() as client, pytest.raises(AgentError, match="unknown op 'fly'"):
        client.request("fly")


def test_without_an_agent_the_client_says_so(stub: Stub) -> None:
    with pytest.raises(AgentError, match="no agent runs on this host; `heddle up FILE` starts one"):
        AgentClient()

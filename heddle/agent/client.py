"""Talks to the agent of this host over its control socket.

Synchronous and light (no asyncio): the command line imports it.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from heddle.errors import AgentError
from heddle.paths import agent_socket

ANSWER_SECONDS = 10.0
_CHUNK = 1 << 16


class AgentClient:
    """One connection, also to the agent of another host of a lab, by its socket.
    Use as a context manager."""

    def __init__(self, path: Path | None = None) -> None:
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(str(path or agent_socket()))
        except PermissionError as error:
            self._socket.close()
            raise AgentError("the agent's socket is for root only: try with sudo") from error
        except OSError as error:
            self._socket.close()
            raise AgentError("no agent runs on this host; `heddle up FILE` starts one") from error

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def request(self, op: str) -> dict[str, Any]:
        """Ask for one answer."""
        self._send({"op": op})
        return self._receive(time.monotonic() + ANSWER_SECONDS)

    def stream(
        self, op: str, deadline: float | None = None, pause: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Ask for a stream; it ends when the agent does. With ``pause`` (seconds)
        there is an empty message whenever nothing has come for so long.

        Raises TimeoutError once ``deadline`` (time.monotonic) has passed.
        """
        self._send({"op": op})
        while True:
            until = _earlier(deadline, pause)
            try:
                yield self._receive(until)
            except TimeoutError:
                if until == deadline:
                    raise
                yield {}

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise AgentError(f"the agent does not listen: {error}") from error

    def _receive(self, deadline: float | None) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._buffer += self._read(deadline)
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if "error" in message and not message.get("ok", False):
            raise AgentError(f"the agent refused: {message['error']}")
        return message

    def _read(self, deadline: float | None) -> bytes:
        if deadline is not None and deadline <= time.monotonic():
            raise TimeoutError
        try:
            self._socket.settimeout(None if deadline is None else deadline - time.monotonic())
            data = self._socket.recv(_CHUNK)
        except TimeoutError:
            raise
        except OSError as error:
            raise AgentError(f"the agent does not answer: {error}") from error
        if not data:
            raise AgentError("the agent has stopped; `heddle up FILE` starts one")
        return data


def _earlier(deadline: float | None, pause: float | None) -> float | None:
    if pause is None:
        return deadline
    ahead = time.monotonic() + pause
    return ahead if deadline is None else min(deadline, ahead)


def agent_pid() -> int | None:
    """The pid of this host's agent; None when none runs or answers."""
    try:
        with AgentClient() as client:
            return int(client.request("ping")["pid"])
    except (AgentError, TimeoutError):
        return None

"""The control socket: one JSON object per line, requests and answers alike.

==========  =====================================================================
op          answer
==========  =====================================================================
ping        ``{"ok": true, "pid": ..., "version": ...}``
status      the agent's own fact: revision applied, repairs, errors, ...
reconcile   looks for damage and at the machines now instead of within seconds;
            ``{"look": n}``: errors of machines with a lower ``look`` are older
paths       how the other hosts are reached: ``{"host": ..., "paths": [...]}``
facts       stream of ``{"facts": [[kind, id, fact or null], ...]}``: first all,
            then what changes
events      stream of drop events, from now on
stop        ends the agent; the data plane stays as it is
==========  =====================================================================

A request that can't be served gets ``{"ok": false, "error": ...}``.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from heddle import __version__
from heddle.agent.facts import Fact, Key

Message = dict[str, Any]
_PRIVATE = 0o600


class Controlled(Protocol):
    """What the control socket needs of an agent."""

    def describe(self) -> Message: ...

    def paths(self) -> Message: ...

    def reconcile(self) -> int: ...

    def stop(self) -> None: ...

    def follow_facts(self) -> AsyncIterator[dict[Key, Fact | None]]: ...

    def follow_events(self) -> AsyncIterator[Message]: ...


class ControlServer:
    """Serves one agent's socket until cancelled."""

    def __init__(self, agent: Controlled, path: Path) -> None:
        self._agent = agent
        self._path = path
        self._streams: dict[str, Callable[[], AsyncIterator[Message]]] = {
            "facts": self._facts,
            "events": agent.follow_events,
        }
        self._answers: dict[str, Callable[[], Message]] = {
            "ping": lambda: {"pid": os.getpid(), "version": __version__},
            "status": agent.describe,
            "paths": agent.paths,
            "reconcile": self._reconcile,
            "stop": self._stop,
        }

    async def serve(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)  # of an agent that was killed
        mask = os.umask(0o777 & ~_PRIVATE)
        try:
            server = await asyncio.start_unix_server(self._converse, self._path)
        finally:
            os.umask(mask)
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                await self._serve_line(line, reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the agent is going
        finally:
            writer.close()

    async def _serve_line(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            request = json.loads(line)
            op = request["op"]
        except (ValueError, KeyError, TypeError):
            await _send(writer, {"ok": False, "error": 'expected {"op": ...} on one line'})
            return
        if op in self._answers:
            await _send(writer, {"ok": True, **self._answers[op]()})
        elif op in self._streams:
            await _stream(self._streams[op](), reader, writer)
        else:
            await _send(writer, {"ok": False, "error": f"unknown op {op!r}"})

    async def _facts(self) -> AsyncIterator[Message]:
        async for batch in self._agent.follow_facts():
            yield {"facts": [[kind, name, fact] for (kind, name), fact in batch.items()]}

    def _reconcile(self) -> Message:
        return {"look": self._agent.reconcile()}

    def _stop(self) -> Message:
        self._agent.stop()
        return {"pid": os.getpid()}


async def _send(writer: asyncio.StreamWriter, message: Message) -> None:
    writer.write(json.dumps(message, default=str).encode() + b"\n")
    await writer.drain()


async def _stream(
    source: AsyncIterator[Message], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send until the client closes its end: without watching for that, a
    stream on which nothing happens would outlive its client."""

    async def pump() -> None:
        async for message in source:
            await _send(writer, {"ok": True, **message})

    pumping = asyncio.ensure_future(pump())
    closing = asyncio.ensure_future(reader.read())
    try:
        await asyncio.wait({pumping, closing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (pumping, closing):
            task.cancel()
        await asyncio.gather(pumping, closing, return_exceptions=True)

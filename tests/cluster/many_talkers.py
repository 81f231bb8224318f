"""Keeps many TCP connections: sends each line of standard input through all of them,
and prints through how many it came back.

    python many_talkers.py ADDRESS PORT HOW_MANY

A connection that cannot be made, or ends, counts no more.
"""

from __future__ import annotations

import itertools
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator

PATIENCE = 120.0  # s for all answers; TCP repeats what was lost
AT_ONCE = 100  # that wait for an answer
CONNECT_SECONDS = 30.0


def connected(address: str, port: int, count: int) -> list[socket.socket]:
    made = []
    for _ in range(count):
        made.append(socket.create_connection((address, port), timeout=CONNECT_SECONDS))
        made[-1].setblocking(False)
    return made


def answered(connections: list[socket.socket], word: bytes) -> int:
    """Through how many the word came back."""
    waiting, came = iter(connections), 0
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        for connection in _some(waiting):
            selector.register(connection, selectors.EVENT_READ)
            connection.send(word)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(1.0):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                came += _received(connection) == word
                selector.unregister(connection)
                following = next(waiting, None)
                if following is not None:
                    selector.register(following, selectors.EVENT_READ)
                    following.send(word)
    return came


def _some(waiting: Iterator[socket.socket]) -> list[socket.socket]:
    return list(itertools.islice(waiting, AT_ONCE))


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(512)
    except OSError:
        return b""


def main() -> None:
    count = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    connections = connected(sys.argv[1], int(sys.argv[2]), count)
    print(len(connections), flush=True)
    for line in sys.stdin:
        print(answered(connections, line.encode()), flush=True)


main()

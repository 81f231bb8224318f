"""Numbered datagrams at a steady rate, and a TCP stream: what tests of lossless
work send. Runs as a program inside containers, with Python's library alone.

    traffic.py send TO PORT RATE          until standard input ends; prints "sending", how many
    traffic.py count PORT                 until standard input ends; prints JSON
    traffic.py stream TO PORT             sends bytes until standard input ends
    traffic.py sink PORT                  takes in one connection to its end
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

STREAM_BYTES = 1 << 14
SO_RCVBUFFORCE = 33  # beyond net.core.rmem_max: a busy machine may run the reader late


def send(to: str, port: int, rate: float) -> None:
    """Datagrams with numbers from 0 on, ``rate`` per second."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((to, port))
    began, number = time.monotonic(), 0
    while not _told_to_stop(began + number / rate - time.monotonic()):
        sender.send(number.to_bytes(8, "big"))
        number += 1
        if number == 1:
            print("sending", flush=True)
    print(number)


def count(port: int) -> None:
    """How many came, how many different ones, and the highest number."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    receiver.bind(("", port))
    print("listening", flush=True)
    numbers: list[int] = []
    while True:
        ready, _, _ = select.select([receiver, sys.stdin], [], [])
        if receiver in ready:
            numbers.append(int.from_bytes(receiver.recv(64), "big"))
        elif sys.stdin in ready:
            break
    print(json.dumps({"came": len(numbers), "different": len(set(numbers))}))


def stream(to: str, port: int) -> None:
    """One TCP connection, written to until told to stop."""
    sender = socket.create_connection((to, port))
    sent = 0
    while not _told_to_stop(0.001):
        sender.sendall(bytes(STREAM_BYTES))
        sent += STREAM_BYTES
    sender.close()
    print(sent)


def sink(port: int) -> None:
    """Take in one connection; a reset ends in an exception."""
    server = socket.create_server(("", port))
    print("listening", flush=True)
    connection, _ = server.accept()
    taken = 0
    while data := connection.recv(1 << 16):
        taken += len(data)
    print(taken)


def _told_to_stop(seconds: float) -> bool:
    """Whether standard input ends within so long."""
    return bool(select.select([sys.stdin], [], [], max(seconds, 0))[0])


if __name__ == "__main__":
    action, *words = sys.argv[1:]
    if action == "send":
        send(words[0], int(words[1]), float(words[2]))
    elif action == "count":
        count(int(words[0]))
    elif action == "stream":
        stream(words[0], int(words[1]))
    else:
        sink(int(words[0]))

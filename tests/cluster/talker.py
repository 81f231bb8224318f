"""Keeps a TCP connection: sends each line of standard input, prints what is answered.

python talker.py ADDRESS PORT
"""

from __future__ import annotations

import socket
import sys

PATIENCE = 60.0  # for an answer

with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=PATIENCE) as connection:
    answers = connection.makefile("r")
    print("connected", flush=True)
    for line in sys.stdin:
        connection.sendall(line.encode())
        print(answers.readline(), end="", flush=True)

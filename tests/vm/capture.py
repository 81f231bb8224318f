"""Prints a line of JSON per frame that passes a device, until it is ended.

    python capture.py DEVICE

``out`` says whether the host sent it to the device (so the guest received it);
``head`` holds the first 64 bytes, ``length`` counts all of them, without the
segmentation that a GSO frame is yet to get.
"""

from __future__ import annotations

import json
import socket
import sys

ETH_P_ALL = 3
PACKET_OUTGOING = 4
HEAD_BYTES = 64

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sniffer:
    sniffer.bind((sys.argv[1], ETH_P_ALL))
    print("{}", flush=True)  # ready
    while True:
        frame, address = sniffer.recvfrom(1 << 17)
        line = {
            "out": address[2] == PACKET_OUTGOING,
            "head": frame[:HEAD_BYTES].hex(),
            "length": len(frame),
        }
        print(json.dumps(line), flush=True)

"""Probes between hosts as they look on the wire: envelopes of the VNI that no
network has, made by hand and answered by the other host's data plane.

What is inside (``struct probe``, its ethertype, the VNI) comes from the object's
BTF. The header is VXLAN's (RFC 7348, section 5) with a group policy id
(draft-smith-vxlan-group-policy), in which heddle says for whom an envelope is.
"""

from __future__ import annotations

import struct

from heddle.datapath.abi import Abi

ETHERNET_BYTES = 14
_VNI_IS_VALID, _GROUP_IS_VALID = 0x08, 0x80
_SENDER_MAC = bytes.fromhex("02006864") + b"\0\0"  # locally administered; nobody reads it
_RECEIVER_MAC = bytes.fromhex("02006864") + b"\0\1"


class ProbeFrames:
    """Writes requests. What replies say comes from the ring buffer."""

    def __init__(self, abi: Abi) -> None:
        self._probe = abi.codec("probe")
        self._request = abi.value("PROBE_REQUEST")
        self._vni = abi.value("PROBE_VNI")
        self._ethertype = abi.value("PROBE_ETHERTYPE")

    def request(self, host: int, sequence: int, size: int, relay_to: int = 0) -> bytes:
        """A UDP payload: VXLAN header and frame.

        ``size``: bytes of the IP packet that it stands for; as few as there must
        be when less. ``relay_to``: number of the host to send it on to, 0 when
        who gets it shall answer.
        """
        length = ETHERNET_BYTES + max(size, self._probe.size)
        probe = {"kind": self._request, "host": host, "sequence": sequence, "length": length}
        frame = struct.pack("!6s6sH", _RECEIVER_MAC, _SENDER_MAC, self._ethertype)
        frame += self._probe.pack(probe)
        return self._header(relay_to) + frame.ljust(length, b"\0")

    def _header(self, relay_to: int) -> bytes:
        flags = _VNI_IS_VALID | (_GROUP_IS_VALID if relay_to else 0)
        return struct.pack("!BBHI", flags, 0, relay_to, self._vni << 8)

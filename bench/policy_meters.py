"""Measure pairs of containers with the meters of many flows and connections."""

from __future__ import annotations

from dataclasses import dataclass

from bench import private
from bench.commands import BenchError
from bench.meters import meter
from bench.peers import DEVICE, Pair, netns_path
from bench.policy_peers import TCP_PORTS, UDP_PORTS

CPU = 0
STREAM_CPUS = (0, 1)  # of the sender and of the receiver
FLOOD_CPUS = (0, 1)
CONGESTION_CONTROL = "cubic"  # as in figures/tcp.py
_OPENER_PORTS = 50_000  # of flows.h: so many flows share a port of the receiver
_LOSS_MAX = 0.001


@dataclass(frozen=True, slots=True)
class FrameCost:
    """CPU nanoseconds per delivered frame of established flows, and by how many
    the first frame of a flow exceeds a later one."""

    established: float
    added_to_first: float


class FlowMeter:
    """Sends 64-byte frames of many flows through a pair; ``daemon`` is the
    process that forwards them, if it is not the kernel."""

    def __init__(self, pair: Pair, daemon: int | None = None) -> None:
        back = pair.reversed()
        self._daemon = daemon
        self._settings = {
            "switch_netns": netns_path(pair.switch),
            "sender_netns": netns_path(pair.sender),
            "receiver_netns": netns_path(pair.receiver),
            "device": DEVICE,
            "sender_port": pair.host_device,
            "receiver_port": back.host_device,
            "source_mac": pair.sender_mac,
            "destination_mac": pair.next_hop_mac,
            "reply_source_mac": back.sender_mac,
            "reply_destination_mac": back.next_hop_mac,
            "source_ip": pair.sender_ip,
            "destination_ip": pair.receiver_ip,
            "cpu": CPU,
            "stride": 1,
            "softirqd_schedstat": private.ksoftirqd_schedstat(CPU),
            "daemon_tasks": f"/proc/{daemon}/task" if daemon else "",
        }

    def cost(
        self, milliseconds: int, flows: int = 1, first_flow: int = 0, *, own_ports: bool = False
    ) -> FrameCost:
        """Of so many UDP flows in turn, from a number on; ``own_ports``: each to
        another port of the receiver."""
        stride = {"stride": _OPENER_PORTS} if own_ports else {}
        answer = meter(
            "flows",
            **self._settings | stride,
            flows=flows,
            first_flow=first_flow * stride.get("stride", 1),
            first_port=UDP_PORTS[0],
            milliseconds=milliseconds,
        )
        if not self._daemon:
            _expect(answer["first_delivered"], flows)
            _expect(answer["delivered"], answer["sent"])
        # What a slow daemon did not come to has cost the generator alone.
        per_frame = answer["cpu_ns"] / answer["sent"] + answer["daemon_ns"] / answer["delivered"]
        added = (answer["first_cpu_ns"] - answer["later_cpu_ns"]) / flows
        return FrameCost(per_frame, added)

    def handshakes_per_second(self, connections: int, first: int) -> float:
        """TCP connections whose frames pass in a second of CPU time, opened and
        closed; they are those from number ``first`` on, and a multiple of 64."""
        answer = meter(
            "handshakes",
            **self._settings,
            flows=connections,
            first_flow=first,
            first_port=TCP_PORTS[0],
        )
        _expect(answer["delivered"], answer["sent"])
        return connections * 1e9 / answer["cpu_ns"]


def _expect(delivered: int, sent: int) -> None:
    if delivered < sent * (1 - _LOSS_MAX):
        raise BenchError(f"of {sent} frames, {delivered} arrived")


def connects_per_second(pair: Pair, milliseconds: int) -> float:
    """TCP connections that are opened and closed in a second of CPU time."""
    answer = meter(
        "connects",
        sender_netns=netns_path(pair.sender),
        receiver_netns=netns_path(pair.receiver),
        destination_ip=pair.receiver_ip,
        cpu=CPU,
        softirqd_schedstat=private.ksoftirqd_schedstat(CPU),
        milliseconds=milliseconds,
    )
    return answer["connections"] * 1e9 / answer["cpu_ns"]


def stream(pair: Pair, milliseconds: int) -> float:
    """Bits per second that one TCP stream brings."""
    answer = meter(
        "stream",
        sender_netns=netns_path(pair.sender),
        receiver_netns=netns_path(pair.receiver),
        destination_ip=pair.receiver_ip,
        congestion_control=CONGESTION_CONTROL,
        sender_cpu=STREAM_CPUS[0],
        receiver_cpu=STREAM_CPUS[1],
        milliseconds=milliseconds,
    )
    return answer["bytes"] * 8e9 / answer["wall_ns"]


def flood(
    pair: Pair, destination_mac: str, destination_ip: str, cpu: int, **settings: object
) -> int:
    """Frames that the sender of a pair has flooded the switch with. ``settings``
    are those of flood.c that say with what and for how long."""
    answer = meter(
        "flood",
        stride=1,
        switch_netns=netns_path(pair.switch),
        sender_netns=netns_path(pair.sender),
        sender_port=pair.host_device,
        device=DEVICE,
        source_mac=pair.sender_mac,
        destination_mac=destination_mac,
        source_ip=pair.sender_ip,
        destination_ip=destination_ip,
        cpu=cpu,
        **settings,
    )
    return answer["sent"]

"""Measure pairs of containers with the meters of many flows and connections."""

from __future__ import annotations

from dataclasses import dataclass

from bench import private
from bench.commands import BenchError
from bench.meters import meter
from bench.peers import DEVICE, Pair, netns_path

CPU = 0
STREAM_CPUS = (0, 1)  # of the sender and of the receiver
CONGESTION_CONTROL = "cubic"  # as in figures/tcp.py
_LOSS_MAX = 0.001


@dataclass(frozen=True, slots=True)
class FrameCost:
    """CPU nanoseconds per delivered frame: of established flows, and of the
    first frame of each. ``kept_up`` is the share of sent frames that arrived."""

    established: float
    first: float
    kept_up: float


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
            "softirqd_schedstat": private.ksoftirqd_schedstat(CPU),
            "daemon_tasks": f"/proc/{daemon}/task" if daemon else "",
        }

    def cost(self, milliseconds: int, flows: int = 1, first_flow: int = 0) -> FrameCost:
        """Of so many flows in turn, from a number on."""
        answer = meter(
            "flows",
            **self._settings,
            flows=flows,
            first_flow=first_flow,
            milliseconds=milliseconds,
        )
        kept_up = answer["delivered"] / answer["sent"]
        if not self._daemon and min(kept_up, answer["first_delivered"] / flows) < 1 - _LOSS_MAX:
            raise BenchError(f"frames were lost: {answer}")
        # What a slow daemon did not come to has cost the generator alone.
        per_frame = answer["cpu_ns"] / answer["sent"] + answer["daemon_ns"] / answer["delivered"]
        return FrameCost(per_frame, answer["first_cpu_ns"] / flows, kept_up)


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

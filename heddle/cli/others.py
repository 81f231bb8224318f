"""Other hosts, and the ports that they have, in an operator's words."""

from __future__ import annotations

from typing import Any

from heddle.cli.view import View
from heddle.datapath.addresses import address_text
from heddle.datapath.trace import Trace
from heddle.events.summary import describe

_MAC_BYTES = 6


def host_label(view: View, number: int) -> str:
    """Name of the host with a number."""
    hosts = (host["name"] for host in view.of_kind("host") if host["number"] == number)
    return next(hosts, f"host {number}")


def receiver_elsewhere(view: View, result: Trace) -> dict[str, Any]:
    """To whom a traced frame is sent in an envelope, for JSON; empty when it is not."""
    envelope = result.envelope
    if envelope is None or not result.redirected:
        return {}
    label = host_label(view, envelope.host)
    return {
        "to": _port_label(view, result.to_network, result.frame_out[:_MAC_BYTES]),
        "host": label,
        "vtep": address_text(envelope.vtep),
        "relay": host_label(view, envelope.relay) if envelope.relay else None,
        "vni": result.to_network,
        "rules_asked_at": None if _is_foreign(view, envelope.host) else label,
        "frame_out": result.frame_out.hex(),
        "summary_out": describe(result.frame_out),
    }


def way_text(report: dict[str, Any]) -> str:
    """``host h2 (10.0.0.2, VNI 1002)``, with the relay on the way if there is one."""
    at = f"{report['vtep']}, VNI {report['vni']}"
    if report["relay"]:
        at = f"through {report['relay']}, {at}"
    return f"host {report['host']} ({at})"


def _is_foreign(view: View, number: int) -> bool:
    return any(h["number"] == number and h.get("foreign") for h in view.of_kind("host"))


def _port_label(view: View, vni: int, mac: bytes) -> str:
    """The port that has a MAC in a network; the MAC where intent knows none."""
    text = mac.hex(":")
    networks = {item["id"] for item in view.of_kind("network") if item["vni"] == vni}
    for port in view.of_kind("port"):
        if port["network_id"] in networks and port["mac"].lower() == text:
            return view.names.by_id[port["id"]].label
    return text

"""heddle trace"""

from __future__ import annotations

import argparse
import ipaddress
import socket
from typing import Any

from heddle.cli.options import add_json, describe, require_root
from heddle.cli.others import host_label, receiver_elsewhere, way_text
from heddle.cli.policy import allowed_by
from heddle.cli.route import Way, choose_way
from heddle.cli.table import render_json
from heddle.cli.view import View
from heddle.datapath.addresses import address_text
from heddle.datapath.frames import Probe, Protocol, arp_request, neighbor_solicitation, probe_frame
from heddle.datapath.loader import Datapath
from heddle.datapath.trace import Trace, trace
from heddle.errors import OperationError, RequestError
from heddle.events.naming import PortName
from heddle.events.reasons import explain_at
from heddle.events.summary import describe as describe_frame
from heddle.hypervisor.interfaces import is_deserted
from heddle.paths import host_name

_HEADER_BYTES = {4: 20 + 8, 6: 40 + 8}  # IP and ICMP or UDP
_SIZE_MAX = 3500  # what the kernel takes in a test run


def configure(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        "Say what would happen to a packet. It runs through the live programs and tables, not\n"
        "through a model of them, and changes nothing: no flow, counter or timer.\n"
        "FROM is MACHINE or MACHINE:NIC; TO is that or an address.",
        ("heddle trace vm0 vm1", "a ping from vm0 to vm1"),
        ("heddle trace vm0 vm1 --tcp 443", "a TCP SYN to port 443"),
        ("heddle trace vm0:1 10.9.0.7 --udp 53", "from vm0's second NIC to an address"),
        ("heddle trace vm0 vm1 --ipv6", "a ping over IPv6"),
        ("heddle trace vm0 vm1 --size 1500", "a ping that makes an IP packet of 1500 bytes"),
    )
    parser.add_argument("source", metavar="FROM")
    parser.add_argument("destination", metavar="TO")
    protocol = parser.add_mutually_exclusive_group()
    protocol.add_argument("--tcp", type=_port, metavar="PORT", help="a TCP SYN to this port")
    protocol.add_argument("--udp", type=_port, metavar="PORT", help="a UDP datagram to this port")
    protocol.add_argument("--icmp", action="store_true", help="an ICMP echo request (default)")
    parser.add_argument("--size", type=int, metavar="BYTES", help="length of the IP packet")
    parser.add_argument("--ipv6", action="store_true", help="choose IPv6 addresses")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    require_root("heddle trace")
    view = View()
    way = choose_way(view, arguments.source, arguments.destination, ipv6=arguments.ipv6)
    frame = _frame(way, arguments)
    datapath = Datapath.open(host_name())
    try:
        result = trace(datapath, frame, _ifindex(view, way))
    finally:
        datapath.close()
    report = _report(view, way, result)
    print(render_json(report) if arguments.json else _text(report))
    return 0


def _frame(way: Way, arguments: argparse.Namespace) -> bytes:
    if way.destination_mac is None:
        ask = neighbor_solicitation if ":" in way.destination else arp_request
        return ask(way.source_mac, way.source, way.destination)
    if arguments.tcp is not None and arguments.size is not None:
        raise RequestError("--size is for --icmp and --udp: a TCP SYN carries nothing")
    probe = Probe(way.source_mac, way.destination_mac, way.source, way.destination)
    payload = probe.payload
    if arguments.size is not None:
        payload = bytes(_payload_bytes(arguments.size, way.source))
    protocol = Protocol.ICMP
    if arguments.tcp is not None:
        protocol = Protocol.TCP
    elif arguments.udp is not None:
        protocol = Protocol.UDP
    return probe_frame(
        Probe(
            way.source_mac,
            way.destination_mac,
            way.source,
            way.destination,
            protocol,
            arguments.tcp or arguments.udp or 0,
            payload=payload,
        )
    )


def _payload_bytes(size: int, source: str) -> int:
    headers = _HEADER_BYTES[ipaddress.ip_address(source).version]
    if not headers <= size <= _SIZE_MAX:
        raise RequestError(f"--size {size}: must be {headers} to {_SIZE_MAX}")
    return size - headers


def _ifindex(view: View, way: Way) -> int:
    try:
        return socket.if_nametoindex(way.port.device)
    except OSError as error:
        host = view.find("port", way.port.port_id)["host"]
        if host != host_name():
            raise RequestError(
                f"port {way.port.label} is on host {host}: run `heddle trace` there"
            ) from error
        raise OperationError(
            f"port {way.port.label}: its device {way.port.device} does not exist; "
            "`heddle show port` says why"
        ) from error


# ---- the report: everything there is to say, as JSON ----------------------


def _report(view: View, way: Way, result: Trace) -> dict[str, Any]:
    return {
        "from": way.port.label,
        "source": way.source,
        "destination": way.destination,
        "frame_in": result.frame_in.hex(),
        "summary_in": describe_frame(result.frame_in),
        "stages": [
            {
                "stage": stage.name.removeprefix("STAGE_").lower(),
                "decision": decision.name.removeprefix("DECISION_").lower(),
                "detail": _detail(view, way, stage.name, result),
            }
            for stage, decision in result.decisions
        ],
        "policy": _policy(view, way, result),
        **_outcome(view, way, result),
    }


def _policy(view: View, way: Way, result: Trace) -> dict[str, Any]:
    """What the rules of both ends say, as far as they were asked."""
    state, receiver = result.connection_state, _receiver(view, way, result)
    return {
        "connection": state.name.removeprefix("CONNECTION_").lower() if state is not None else None,
        "allowed_from_vm_by": allowed_by(view, result.from_rule, way.port),
        "allowed_to_vm_by": receiver and allowed_by(view, result.to_rule, receiver),
    }


def _receiver(view: View, way: Way, result: Trace) -> PortName | None:
    """The port that gets the packet or would get it; None for what is answered
    to its sender, and for copies."""
    if result.envelope:
        return None  # its own host asks its rules
    port = view.names.of_ifindex(result.to_ifindex)
    return None if port == way.port else port


def _detail(view: View, way: Way, stage: str, result: Trace) -> str:
    if stage == "STAGE_FLOW" and result.cached_ifindex:
        return f"known, to {_known_receiver(view, result)}"
    if stage == "STAGE_POLICY":
        return _policy_detail(view, way, result)
    if stage == "STAGE_ROUTE" and result.router:
        return _route_detail(view, result)
    if stage == "STAGE_DELIVER":
        return _delivery_detail(view, result)
    return ""


def _route_detail(view: View, result: Trace) -> str:
    words = [f"router {_router_name(view, result.router)}", f"/{result.route_bits} route"]
    if result.to_network:
        words.append(f"to network {_network_name(view, result.to_network)}")
    if result.via:
        words.append(f"via {address_text(result.via)}")
    if result.hops > 1:
        words.append(f"{result.hops} routers passed")
    return ", ".join(words)


def _delivery_detail(view: View, result: Trace) -> str:
    if result.envelope:
        return f"to host {host_label(view, result.envelope.host)}"
    if result.to_ifindex:
        port = view.names.of_ifindex(result.to_ifindex)
        label = view.names.label(result.to_ifindex)
        return f"to {label} ({port.device})" if port else f"to {label}"
    return _copies(result.copies, result.host_copies) if result.has_copies else ""


def _known_receiver(view: View, result: Trace) -> str:
    if result.envelope:
        return f"host {host_label(view, result.envelope.host)}"
    return view.names.label(result.cached_ifindex)


def _copies(ports: int, hosts: int) -> str:
    words = [f"{ports} ports"] if ports or not hosts else []
    return " and ".join(words + ([f"{hosts} other hosts"] if hosts else []))


def _policy_detail(view: View, way: Way, result: Trace) -> str:
    """By which rules, at which end, in which connection."""
    policy = _policy(view, way, result)
    state, sender, receiver = policy.values()
    words = [f"connection {state.replace('_', ' ')}"] if state else []
    if sender:
        words.append(f"{way.port.label}: {sender}")
    if receiver:
        words.append(f"{view.names.label(result.to_ifindex)}: {receiver}")
    return "; ".join(words)


def _outcome(view: View, way: Way, result: Trace) -> dict[str, Any]:
    if result.drop_reason is not None:
        reason = result.drop_reason.name.removeprefix("DROP_")
        outcome = {"delivered": False, **_drop(view, way, reason, result.blamed_ifindex)}
    else:
        outcome = {"delivered": bool(result.to_ifindex or result.has_copies)}
    port = view.names.of_ifindex(result.to_ifindex)
    if result.redirected and port and is_deserted(port.device):
        outcome = {"delivered": False, **_drop(view, way, "NOT_TAKEN_TO_VM", result.to_ifindex)}
    elif result.envelope:
        outcome |= receiver_elsewhere(view, result)
    elif result.redirected:
        outcome["to"] = view.names.label(result.to_ifindex)
        outcome["device"] = port.device if port else None
        outcome["frame_out"] = result.frame_out.hex()
        outcome["summary_out"] = describe_frame(result.frame_out)
    if result.has_copies:
        outcome["copies"] = result.copies
        outcome["host_copies"] = result.host_copies
    return outcome


def _drop(view: View, way: Way, name: str, ifindex: int) -> dict[str, Any]:
    """Why it is dropped, and the port whose rules or limits it broke."""
    blamed = view.names.of_ifindex(ifindex) if ifindex else way.port
    groups = blamed.security_groups if blamed else ()
    reason = explain_at(name, groups)
    return {
        "reason": name,
        "port": blamed.label if blamed else view.names.label(ifindex),
        "direction": "from_vm" if blamed == way.port else "to_vm",
        "security_groups": groups,
        "meaning": reason.meaning,
        "remedy": reason.remedy,
    }


def _router_name(view: View, number: int) -> str:
    return next((r["name"] for r in view.of_kind("router") if r["number"] == number), str(number))


def _network_name(view: View, vni: int) -> str:
    return next((n["name"] for n in view.of_kind("network") if n["vni"] == vni), f"VNI {vni}")


# ---- the same for people --------------------------------------------------


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['from']} sends  {report['summary_in']}"]
    for stage in report["stages"]:
        decision = stage["decision"].replace("_", " ").removeprefix(f"{stage['stage']} ")
        detail = f"  ({stage['detail']})" if stage["detail"] else ""
        lines.append(f"  {stage['stage']:<8} {decision}{detail}")
    if "reason" in report:
        lines.append(f"dropped: {report['reason']}: {_at_port(report)}{report['meaning']}")
        lines.append(f"what to do: {report['remedy']}")
    if "vtep" in report:
        lines.append(f"{report['to']} at {way_text(report)} is sent  {report['summary_out']}")
        if report["rules_asked_at"]:
            lines.append(f"its rules, asked at host {report['host']}, say whether it may have that")
    elif "to" in report:
        lines.append(f"{report['to']} receives  {report['summary_out']}")
    elif "copies" in report:
        lines.append(f"{_copies(report['copies'], report['host_copies'])} receive a copy")
    elif "reason" not in report:
        lines.append("nothing is sent on: the data plane keeps it")
    return "\n".join(lines)


def _at_port(report: dict[str, Any]) -> str:
    """Whose rules they were; of other reasons the first line names the port."""
    if not report["reason"].startswith("POLICY_") and report["direction"] == "from_vm":
        return ""
    return f"{report['port']}, {report['direction']}: "


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 < port < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port number (1 to 65535)")
    return port

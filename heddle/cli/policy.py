"""Security groups, address groups and quality of service, as `heddle show` tells
of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heddle.cli.view import Item, View, addresses
from heddle.events.naming import PortName
from heddle.events.reasons import explain_at
from heddle.intent.protocols import ICMP, ICMPV6, protocol_name
from heddle.intent.rates import bytes_text, rate_text

if TYPE_CHECKING:  # only root needs the data plane
    from heddle.datapath.learned import Announced, Behind

# ---- security groups -----------------------------------------------------


def is_guarded(port: Item) -> bool:
    """Whether port security is on."""
    return bool(port.get("port_security", True))


def groups_of(view: View, port: Item) -> list[str]:
    """Names of a port's security groups."""
    return [view.name_of(group) for group in port.get("security_group_ids", ())]


def group_details(view: View, group: Item) -> Item:
    """A security group with its rules and members."""
    return {
        **group,
        "rules": [_rule(view, rule) for rule in view.rules_of(group)],
        "members": [_member(view, port) for port in view.members(group)],
    }


def brief(details: Item) -> Item:
    """Details for people: a rule's name says all of it."""
    short = {name: value for name, value in details.items() if (name, value) != ("status", {})}
    if "rules" in details:
        short["rules"] = [rule["name"] for rule in details["rules"]]
    if "members" in details:
        short["members"] = [" ".join((m["port"], *m["addresses"])) for m in details["members"]]
    if "drops" in details:
        short["drops"] = [f"{d['packets']} {d['reason']}: {d['meaning']}" for d in details["drops"]]
    return short


def address_group_details(view: View, group: Item) -> Item:
    """An address group with its prefixes, and the rules that name it."""
    return {
        **group,
        "prefixes": [entry["cidr"] for entry in view.entries_of(group)],
        "used_by": [rule["name"] for rule in view.rules_naming(group)],
    }


def _rule(view: View, rule: Item) -> Item:
    protocol = rule["protocol"]
    return {
        "name": rule["name"],
        "direction": rule["direction"],
        "ip_version": rule["ip_version"],
        "protocol": "any" if protocol is None else protocol_name(protocol),
        "ports": _ports(rule),
        "remote": _remote(view, rule),
    }


def _ports(rule: Item) -> str:
    first, last = rule["port_min"], rule["port_max"]
    if first is None:
        return "any"
    if rule["protocol"] in (ICMP, ICMPV6):
        return f"type {first}" + ("" if last is None else f" code {last}")
    return str(first) if first == last else f"{first}-{last}"


def _remote(view: View, rule: Item) -> str:
    if rule["remote_group_id"]:
        return f"group {view.name_of(rule['remote_group_id'])}"
    if rule["address_group_id"]:
        return f"address group {view.name_of(rule['address_group_id'])}"
    return str(rule["remote_cidr"] or "any")


def _member(view: View, port: Item) -> Item:
    pairs = [pair["cidr"] for pair in port.get("address_pairs", ())]
    return {"port": view.names.by_id[port["id"]].label, "addresses": [*addresses(port), *pairs]}


def allowed_by(view: View, number: int, port: PortName | None) -> str | None:
    """What allowed a packet at one end: the rule of that number, or that the
    port is not guarded. None: it came by no rule."""
    if number in view.rule_names:
        return view.rule_names[number]
    if port is not None and not port.guarded:
        return "port security off"
    return f"rule {number}, removed since" if number else None


# ---- quality of service --------------------------------------------------


def qos_of(view: View, port: Item) -> Item | None:
    """The QoS policy of a port."""
    return view.by_id.get(port.get("qos_policy_id") or "")


def qos_words(policy: Item) -> Item:
    """Limits of a policy as the topology file writes them; what it does not
    limit is left out."""
    words = {
        "from_vm": _bandwidth(policy["bandwidth_from_vm"]),
        "to_vm": _bandwidth(policy["bandwidth_to_vm"]),
        "packets_from_vm": _packets(policy["packet_rate_from_vm"]),
        "packets_to_vm": _packets(policy["packet_rate_to_vm"]),
        "minimum": rate_text(policy["minimum_bandwidth"]) if policy["minimum_bandwidth"] else None,
        "dscp": policy["dscp"],
    }
    return {name: value for name, value in words.items() if value is not None}


def qos_details(view: View, policy: Item) -> Item:
    """A QoS policy with the ports that have it."""
    ports = [view.names.by_id[port["id"]].label for port in view.ports_with_qos(policy)]
    return {**policy, "limits": qos_words(policy), "ports": ports}


def _bandwidth(limit: Item | None) -> str | None:
    if limit is None:
        return None
    return f"{rate_text(limit['rate'])}, burst {bytes_text(limit['burst'])}"


def _packets(limit: Item | None) -> str | None:
    return f"{limit['rate']}/s, burst {limit['burst']}" if limit else None


# ---- what the data plane counts ------------------------------------------


def connections_of(view: View, port: Item) -> Item | None:
    """How many connections a port has opened, and how many it may have now;
    None when that can't be read (no root, no data plane, no device)."""
    usage, ifindex = view.usage, view.status(port).get("ifindex")
    if usage is None or ifindex is None:
        return None
    used = usage.by_ifindex.get(ifindex, 0)
    return {"used": used, "limit": usage.limit(port.get("connections_max", 0))}


def behind(view: View, port: Item) -> Item | None:
    """How many MACs and addresses of others are known behind a port without port
    security, and how many of each can be; None as for ``connections_of``, and when
    nobody is."""
    known = _guests_at(view, port)
    return known._asdict() if known else None


def announced(view: View, port: Item) -> Item | None:
    """How many addresses of its address pairs are known to be at a port, and how many
    can be; None as for ``behind``."""
    known = _pairs_at(view, port)
    return known._asdict() if known else None


def _guests_at(view: View, port: Item) -> Behind | None:
    guests = view.learned.guests if view.learned and not is_guarded(port) else {}
    return guests.get(view.status(port).get("ifindex", 0))


def _pairs_at(view: View, port: Item) -> Announced | None:
    pairs = view.learned.announced if view.learned and is_guarded(port) else {}
    return pairs.get(view.status(port).get("ifindex", 0))


def port_details(view: View, port: Item) -> Item:
    """A port with what was dropped because of its rules, limits and guard."""
    ifindex, groups = view.status(port).get("ifindex"), groups_of(view, port)
    counts = [count for count in view.drops or () if count.ifindex == ifindex]
    drops = [
        {
            "reason": count.reason,
            "packets": count.packets,
            "bytes": count.bytes,
            "meaning": explain_at(count.reason, groups).meaning,
        }
        for count in counts
    ]
    return {**port, "drops": drops}


def troubles(view: View) -> list[str]:
    """A full flow table, and ports that may open no more connections."""
    if view.usage is None:
        return []
    if view.usage.is_full:
        return ["the flow table is full: no new connection is let in"]
    found = []
    for port in view.of_kind("port"):
        connections = connections_of(view, port)
        if connections and connections["used"] >= connections["limit"]:
            label = view.names.by_id[port["id"]].label
            found.append(f"{label} has all the {connections['limit']} connections it may have")
    return found


def crowds(view: View) -> list[str]:
    """Ports of which there is more to learn than can be known, and full tables."""
    if not view.learned:
        return []
    full = [f"there is no room for more {what}: the oldest go" for what in view.learned.full]
    return full + [crowd for port in view.of_kind("port") if (crowd := _crowd_at(view, port))]


def _crowd_at(view: View, port: Item) -> str | None:
    guests, pairs = _guests_at(view, port), _pairs_at(view, port)
    if guests and guests.is_full:
        kinds = {"MACs": guests.macs, "addresses": guests.addresses}
        full = [f"{count} {kind}" for kind, count in kinds.items() if count >= guests.limit]
        what = f"{' and '.join(full)} behind it"
    elif pairs and pairs.is_full:
        what = f"announced {pairs.addresses} addresses of its address pairs"
    else:
        return None
    label = view.names.by_id[port["id"]].label
    return f"{label} has {what}, as many as can be known: the oldest make room"

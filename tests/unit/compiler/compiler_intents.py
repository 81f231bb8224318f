"""Objects to compile. Addresses say where they are: 10.<network>.0.<port>,
fd00:<network>::<port>; ids are names, so that a failure can be read."""

from __future__ import annotations

from heddle.intent.model import (
    AddressGroup,
    AddressGroupEntry,
    AddressPair,
    AnyResource,
    Detour,
    FixedIp,
    ForeignMac,
    ForeignMember,
    Host,
    HostRoute,
    Ipv6Mode,
    Machine,
    Network,
    Path,
    Port,
    Presence,
    QosPolicy,
    Route,
    Router,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)

HOST = "h1"


def network(where: int = 1, /, **fields: object) -> Network:
    return Network.model_validate(
        {"id": f"net{where}", "name": f"net{where}", "vni": where} | fields
    )


def subnet4(where: int = 1, /, **fields: object) -> Subnet:
    """Of the network of the same number, unless said otherwise."""
    return Subnet.model_validate(
        {
            "id": f"sub4-{where}",
            "name": f"net{where}/4",
            "network_id": f"net{where}",
            "number": where,
            "cidr": f"10.{where}.0.0/24",
            "gateway_ip": f"10.{where}.0.1",
        }
        | fields
    )


def subnet6(where: int = 1, /, **fields: object) -> Subnet:
    return Subnet.model_validate(
        {
            "id": f"sub6-{where}",
            "name": f"net{where}/6",
            "network_id": f"net{where}",
            "number": 100 + where,
            "cidr": f"fd00:{where}::/64",
            "gateway_ip": f"fd00:{where}::1",
            "ipv6_mode": Ipv6Mode.SLAAC,
        }
        | fields
    )


def interface(where: int = 1, *addresses: str) -> RouterInterface:
    """With the gateways' addresses, unless said otherwise; one digit of the first
    address ends the MAC."""
    addresses = addresses or (f"10.{where}.0.1", f"fd00:{where}::1")
    return RouterInterface(
        network_id=f"net{where}",
        mac=f"fa:16:3e:00:{where:02x}:0{addresses[0][-1]}",
        addresses=addresses,
    )


def router(*interfaces: RouterInterface, number: int = 1, **fields: object) -> Router:
    return Router.model_validate(
        {"id": f"router{number}", "name": f"r{number}", "number": number, "interfaces": interfaces}
        | fields
    )


def static(destination: str, nexthop: str | None = None) -> Route:
    return Route(destination=destination, nexthop=nexthop)


def host_route(destination: str, nexthop: str) -> HostRoute:
    return HostRoute(destination=destination, nexthop=nexthop)


def machine(label: str = "m1", machine_kind: str = "vm", /, **fields: object) -> Machine:
    return Machine.model_validate(
        {"id": f"machine-{label}", "name": label, "machine_kind": machine_kind, "host": HOST}
        | fields
    )


def port(where: int = 1, number: int = 2, on: str = "m1", /, **fields: object) -> Port:
    """Port ``number`` of network ``where``, on the machine named ``on``."""
    return Port.model_validate(
        {
            "id": f"{where:04x}-{number:04x}-port",
            "name": f"p{where}-{number}",
            "network_id": f"net{where}",
            "mac": f"fa:16:3e:01:{where:02x}:{number:02x}",
            "fixed_ips": (
                FixedIp(subnet_id=f"sub4-{where}", ip=f"10.{where}.0.{number}"),
                FixedIp(subnet_id=f"sub6-{where}", ip=f"fd00:{where}::{number}"),
            ),
            "machine_id": f"machine-{on}",
            "host": HOST,
        }
        | fields
    )


def dual_stack(*numbers: int) -> list[AnyResource]:
    """Networks with a subnet of each family, joined by one router."""
    return [
        *(make(number) for number in numbers for make in (network, subnet4, subnet6)),
        router(*(interface(number) for number in numbers)),
    ]


def group(label: str = "web", number: int = 1, /, **fields: object) -> SecurityGroup:
    return SecurityGroup.model_validate({"id": label, "name": label, "number": number} | fields)


def rule(number: int = 1, of: str = "web", /, **fields: object) -> SecurityGroupRule:
    """To the VM, IPv4, of any protocol and from anywhere, unless said otherwise."""
    return SecurityGroupRule.model_validate(
        {
            "id": f"rule{number}",
            "name": f"rule{number}",
            "number": number,
            "security_group_id": of,
            "direction": "to_vm",
            "ip_version": 4,
        }
        | fields
    )


def address_group(label: str = "offices", number: int = 50, /, **fields: object) -> AddressGroup:
    return AddressGroup.model_validate({"id": label, "name": label, "number": number} | fields)


def entry(cidr: str, of: str = "offices", /, **fields: object) -> AddressGroupEntry:
    return AddressGroupEntry.model_validate(
        {"id": f"{of}-{cidr}", "name": f"{of}/{cidr}", "address_group_id": of, "cidr": cidr}
        | fields
    )


def address_pair(cidr: str, mac: str | None = None) -> AddressPair:
    return AddressPair(cidr=cidr, mac=mac)


def qos(label: str = "gold", /, **fields: object) -> QosPolicy:
    return QosPolicy.model_validate({"id": label, "name": label} | fields)


def host(number: int = 1, /, **fields: object) -> Host:
    """h1 at 192.0.2.1, and so on."""
    return Host.model_validate(
        {"id": f"host{number}", "name": f"h{number}", "number": number, "vtep": f"192.0.2.{number}"}
        | fields
    )


def detour(to: str, relay: str) -> Detour:
    return Detour(id=f"detour-{to}", name=to, host=to, relay=relay)


def path(to: str, relay: str | None = None, mtu: int = 0) -> Path:
    return Path(id=f"path-{to}", name=to, host=to, relay=relay, mtu=mtu)


def presence(of: str, *, here: bool) -> Presence:
    return Presence(id=of, name=of, machine_id=of, here=here)


def foreign(name: str, *macs: tuple[str, str | None], learn: bool = False) -> ForeignMember:
    behind = tuple(ForeignMac(mac=mac, address=address) for mac, address in macs)
    return ForeignMember(host=name, learn=learn, macs=behind)

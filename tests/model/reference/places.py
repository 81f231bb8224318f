"""Who has an address or a MAC: by intent, or, of those that several ports may use
(allowed address pairs), by the last announcement in ARP or ND; all else may be behind
a port without port security, which tells by what it sends."""

from __future__ import annotations

from dataclasses import dataclass

from heddle.intent.model import Network, Port
from reference import wire
from reference.guard import may_share
from reference.topology import Endpoint, Topology


@dataclass(frozen=True)
class Neighbor:
    endpoint: Endpoint
    mac: bytes


class Places:
    """``topology`` may be exchanged; what was announced stays known."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._addresses: dict[tuple[str, wire.IpAddress], tuple[str, bytes]] = {}
        self._macs: dict[tuple[str, bytes], str] = {}
        self._open_addresses: dict[tuple[str, wire.IpAddress], tuple[str, bytes]] = {}
        self._open_macs: dict[tuple[str, bytes], str] = {}

    def learn(self, port: Port, mac: bytes, address: wire.IpAddress) -> bool:
        """The port, which may use the address, announces it. True unless intent
        already says whose it is."""
        network = self.topology.network_of(port)
        if self.topology.with_address(network, address) is not None:
            return False
        self._addresses[network.id, address] = (port.id, mac)
        if self.topology.with_mac(network, mac) is None:
            self._macs[network.id, mac] = port.id
        return True

    def learn_foreign_mac(self, port: Port, mac: bytes) -> None:
        """A machine behind a foreign VTEP sends with it."""
        self._macs[port.network_id, mac] = port.id

    def learn_open_mac(self, port: Port, mac: bytes) -> None:
        """Somebody behind the port, which has no port security, sends with it."""
        network = self.topology.network_of(port)
        if not wire.is_group(mac) and self.topology.with_mac(network, mac) is None:
            self._open_macs[network.id, mac] = port.id

    def learn_open_address(self, port: Port, mac: bytes, address: wire.IpAddress) -> bool:
        """The same of an address that it speaks for; as ``learn``."""
        network = self.topology.network_of(port)
        if wire.is_group(mac) or self.topology.with_address(network, address) is not None:
            return False
        self._open_addresses[network.id, address] = (port.id, mac)
        return True

    def _open_port(self, network: Network, port_id: str) -> Port | None:
        """The port, if it is one of the network's, and still may have others behind it."""
        port = self.topology.ports.get(port_id)
        if port is None or port.network_id != network.id or port.port_security:
            return None
        return port

    def with_address(self, network: Network, address: wire.IpAddress) -> Neighbor | None:
        """Link-local addresses belong to nobody here."""
        endpoint = self.topology.with_address(network, address)
        if endpoint is not None:
            return Neighbor(endpoint, self.topology.mac_of(endpoint))
        port_id, mac = self._addresses.get((network.id, address), ("", b""))
        port = self.topology.end(port_id)
        if (
            port is not None
            and port.network_id == network.id
            and (port_id in self.topology.behind or may_share(self.topology, port, mac, address))
        ):
            return Neighbor(port, mac)
        port_id, mac = self._open_addresses.get((network.id, address), ("", b""))
        port = self._open_port(network, port_id)
        return Neighbor(port, mac) if port is not None else None

    def with_mac(self, network: Network, mac: bytes) -> Endpoint | None:
        endpoint = self.topology.with_mac(network, mac)
        if endpoint is not None:
            return endpoint
        port = self.topology.end(self._macs.get((network.id, mac), ""))
        if port is not None and port.network_id == network.id:
            return port
        return self._open_port(network, self._open_macs.get((network.id, mac), ""))

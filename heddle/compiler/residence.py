"""Another host in a network: its place among those to flood to."""

from __future__ import annotations

from heddle.compiler.addresses import ip_version
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.needs import Residence
from heddle.compiler.state import FloodHostKey, RowKey
from heddle.intent.model import Network


def compile_residence(view: View, residence: Residence) -> Fragment:
    fragment = Fragment()
    network = view.network(residence.network_id)
    number = place_of(view, residence)
    if network is not None and number is not None:
        key = RowKey("flood_hosts", FloodHostKey(network.vni, number))
        fragment.rows[key] = view.next_host(residence)
    return fragment


def place_of(view: View, residence: Residence) -> int | None:
    """The host's number in the list of the network; None: it is not in it, as
    nothing is flooded there, or it goes to a multicast group."""
    if not view.resides(residence) or not view.is_needed(residence.network_id):
        return None
    network = view.network(residence.network_id)
    if network is None or view.own_vtep() is None or flood_group_of(view, network) is not None:
        return None
    return view.host_number(residence.host) or None


def flood_group_of(view: View, network: Network) -> str | None:
    """The multicast group of the network, if envelopes can go there."""
    own = view.own_vtep()
    group = network.flood_group
    if own is None or group is None or ip_version(group) != ip_version(own.vtep):
        return None
    return group

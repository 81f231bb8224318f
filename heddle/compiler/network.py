"""A network: its router advertisement."""

from __future__ import annotations

from heddle.compiler import ra
from heddle.compiler.dependencies import View
from heddle.compiler.fragment import Fragment
from heddle.compiler.state import RowKey
from heddle.compiler.subnet import gateway_interface
from heddle.intent.model import Network


def compile_network(view: View, network: Network) -> Fragment:
    fragment = Fragment()
    subnet = ra.advertising_subnet(view, network)
    interface = gateway_interface(view, subnet) if subnet else None
    if interface is not None:
        subnets = ra.ipv6_subnets(view, network)
        row = ra.template(network, subnets, interface, view.limits)
        fragment.rows[RowKey("ra_templates", network.vni)] = row
    return fragment

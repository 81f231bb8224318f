"""Rows in words."""

from __future__ import annotations

import pytest

from heddle.applier.describe import describe
from heddle.compiler.addresses import mapped
from heddle.compiler.state import (
    Device,
    FloodHostKey,
    PolicyGroupKey,
    PolicyRemoteKey,
    PolicyRuleKey,
    RouteKey,
    RowKey,
    SetMemberKey,
    SourcePrefixKey,
    Symbol,
    TunnelSenderKey,
)

TO_VM = Symbol("direction", ("TO_VM",))
ANY = Symbol("limits", ("PROTOCOL_ANY",))
TEN = mapped("10.0.0.0")
NOWHERE = bytes(16)
ROWS = {
    "routes 10.0.0.0/8 of router 7": RowKey("routes", RouteKey(32 + 104, 7, TEN)),
    "source_prefixes 10.0.0.0/8 with 00:00:5e:00:01:01 from tap1": RowKey(
        "source_prefixes",
        SourcePrefixKey(96 + 104, Device("tap1"), bytes.fromhex("00005e000101"), TEN),
    ),
    "source_prefixes ::/0 with 00:00:5e:00:01:01 from tap1": RowKey(
        "source_prefixes",
        SourcePrefixKey(96, Device("tap1"), bytes.fromhex("00005e000101"), NOWHERE),
    ),
    "tunnel_senders 10.0.0.0": RowKey("tunnel_senders", TunnelSenderKey(TEN)),
    "flood_hosts host 3 in network 9": RowKey("flood_hosts", FloodHostKey(9, 3)),
    "vteps 3": RowKey("vteps", 3),
    "sets 5": RowKey("sets", 5),
    "set_members 10.0.0.0/8 of set 5 in network 9": RowKey(
        "set_members", SetMemberKey(5, 9, 4, 104, TEN)
    ),
    "set_members 10.0.0.0/8 of set 5": RowKey("set_members", SetMemberKey(5, 0, 4, 104, TEN)),
    "policy_groups group 1 to_vm IPv6": RowKey("policy_groups", PolicyGroupKey(1, TO_VM, 6)),
    "policy_remotes group 1 to_vm IPv4 10.0.0.0/8": RowKey(
        "policy_remotes", PolicyRemoteKey(1, 0, TO_VM, 4, 104, TEN)
    ),
    "policy_rules group 1 to_vm IPv4 set 5 protocol 6 port 80/12": RowKey(
        "policy_rules", PolicyRuleKey(1, 5, TO_VM, 4, 0, 12, NOWHERE, 6, 80)
    ),
    "policy_rules group 1 to_vm IPv6 ::/0 protocol any port 0/0": RowKey(
        "policy_rules", PolicyRuleKey(1, 0, TO_VM, 6, 0, 0, NOWHERE, ANY, 0)
    ),
}


@pytest.mark.parametrize(("words", "row"), ROWS.items(), ids=ROWS)
def test_row(words: str, row: RowKey) -> None:
    assert describe(row) == words

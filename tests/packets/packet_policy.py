"""What tests of policy share: rules of one end, questions about web1 and db1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from packet_rules import FROM_VM, ICMP, ICMPV6, TO_VM, Rule, write_group
from packet_talk import between
from packet_world import DB1, WEB1, Nic
from scapy.packet import Packet

if TYPE_CHECKING:
    from tests.packets.conftest import Switchboard

DIRECTIONS = (FROM_VM, TO_VM)
END = {FROM_VM: WEB1, TO_VM: DB1}  # whose rules are asked
PEER = {FROM_VM: DB1, TO_VM: WEB1}
REASON = {FROM_VM: "DROP_POLICY_FROM_VM", TO_VM: "DROP_POLICY_TO_VM"}
OWN = 7  # number of the group that a test writes
ICMP_NUMBER = {4: ICMP, 6: ICMPV6}


def allow(board: Switchboard, nic: Nic, rules: Sequence[Rule], *flags: str) -> None:
    """These rules, and no others, are those of a port."""
    write_group(board.world, OWN, rules, *flags)
    board.world.write_port(nic, groups=[OWN])


def verdict(board: Switchboard, direction: str, version: int, payload: Packet, **ip: int) -> bool:
    """Is a packet from web1 to db1 allowed? If not, it is for the right reason."""
    sent = board.send_once("web1", between(WEB1, DB1, version, payload, **ip))
    if sent.to == "db1":
        return True
    assert sent.reason == REASON[direction]
    assert sent.trace.blamed_ifindex == board.devices[END[direction].name].ifindex
    assert board.drop_count(END[direction].name, sent.reason)["packets"] == 1
    return False

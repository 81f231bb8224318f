"""Every kind of mistake in groups, rules and rates, with the exact message it gets."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from intent_problems import problems

from heddle.intent.schema_policy import GROUPS_MAX, SETS_MAX

ABI = Path(__file__).parents[3] / "bpf" / "shared" / "abi.h"

WEB = """\
version: 1
networks:
  web: {cidr: 10.0.0.0/24}
"""

# Name of the case, the file, and its problems as "line: object: what; remedy".
CASES: list[tuple[str, str, list[str]]] = [
    (
        "address groups",
        """\
        version: 1
        address_groups:
          offices:
          - 192.0.2.0/24
          - 192.0.2.0/24
          "a b": []
          other: [offices]
          hosts: [10.0.0.1/24, "::ffff:10.0.0.1", "fe80::1%eth0", 5, {a: b}, 10.0.0.0/33]
          none:
        """,
        [
            "5: address group offices: 192.0.2.0/24 is given twice; keep one",
            '6: address group a b: "a b" is no usable name; use letters, digits, _, - and ., at '
            'most 63, the first no - or .: "a-b"',
            '7: address group other: "offices" is no address; a group can\'t hold another: write '
            "out its prefixes",
            '8: address group hosts: "10.0.0.1/24" has bits beyond its prefix length; did you '
            'mean "10.0.0.0/24"?',
            '8: address group hosts: "::ffff:10.0.0.1" is an IPv4 address in IPv6 form; write it '
            "as IPv4",
            '8: address group hosts: "fe80::1%eth0" is neither an address nor a prefix; write one '
            'such as 192.0.2.7 or "2001:db8::/48"',
            '8: address group hosts: is no text; write one such as "172.17.17.0/24"',
            '8: address group hosts: "10.0.0.0/33" is no prefix; write one such as '
            '172.17.17.0/24 or "fd00:17::/64"',
        ],
    ),
    (
        "names and kinds of security groups",
        """\
        version: 1
        security_groups:
          default: []
          text: nothing
          "-x": []
          more: {stateful: maybe, rule: []}
        """,
        [
            '3: security group default: "default" is the project\'s own group, made when a port '
            "needs it; choose another name",
            '4: security group text: is the text "nothing", must be a mapping of keys; for '
            'example "security_groups: {web: [{direction: to_vm, protocol: tcp, ports: 80}]}"',
            '5: security group -x: "-x" is no usable name; use letters, digits, _, - and ., at '
            'most 63, the first no - or .: "x"',
            '6: security group more, stateful: is the text "maybe", must be true or false; for '
            'example "stateful: false"',
            '6: security group more, rule: key "rule" is not known; did you mean "rules"?',
        ],
    ),
    (
        "keys of a rule",
        """\
        version: 1
        security_groups:
          list:
          - {direction: in}
          - {protocol: tcp}
          - web
          - {direction: to_vm, port: 80}
          - {direction: to_vm, ethertype: arp}
          mapping:
            stateful: true
            rules:
            - {direction: to_vm, icmp_type: 256}
            - {direction: to_vm, remote: web}
            - {direction: to_vm, remote: 10.0.0.1/8}
        """,
        [
            '4: security group list, rule, direction: "in" is not known; there is from_vm, to_vm',
            '5: security group list, rule, direction: key "direction" is missing; for example '
            '"direction: to_vm"',
            '6: security group list, rule: is the text "web", must be a mapping of keys; for '
            'example "rules: [{direction: to_vm, protocol: tcp, ports: 22}]"',
            '7: security group list, rule, port: key "port" is not known; did you mean "ports"?',
            '8: security group list, rule, ethertype: "arp" is not known; there is ipv4, ipv6',
            "12: security group mapping, rule, icmp_type: is 256; give 255 or less",
            '13: security group mapping, rule, remote: "web" is neither an address nor a prefix; '
            'write one such as 192.0.2.7 or "2001:db8::/48"',
            '14: security group mapping, rule, remote: "10.0.0.1/8" has bits beyond its prefix '
            'length; did you mean "10.0.0.0/8"?',
        ],
    ),
    (
        "protocols and ports",
        """\
        version: 1
        security_groups:
          web:
          - {direction: to_vm, protocol: tpc}
          - {direction: to_vm, protocol: 256}
          - {direction: to_vm, protocol: -1}
          - {direction: to_vm, protocol: true}
          - {direction: to_vm, protocol: tcp, ports: 443-80}
          - {direction: to_vm, protocol: tcp, ports: 0}
          - {direction: to_vm, protocol: tcp, ports: 1-65536}
          - {direction: to_vm, protocol: tcp, ports: [80, 443]}
          - {direction: to_vm, protocol: tcp, ports: "80:443"}
          - {direction: to_vm, protocol: ipv6-frag}
        """,
        [
            '4: security group web, rule, protocol: "tpc" is not known; did you mean "tcp"?',
            "5: security group web, rule, protocol: 256 is no protocol; give a name such as tcp, "
            "or a number up to 255",
            "6: security group web, rule, protocol: -1 is no protocol; give a name such as tcp, "
            "or a number up to 255",
            "7: security group web, rule, protocol: true is no protocol; give a name such as tcp, "
            "or a number up to 255",
            "8: security group web, rule, ports: 443-80 is reversed; write 80-443",
            "9: security group web, rule, ports: 0 is no port; give 1 to 65535",
            "10: security group web, rule, ports: 65536 is no port; give 1 to 65535",
            "11: security group web, rule, ports: a list is no port or range of ports; write 80 or "
            "80-443, one rule for each",
            '12: security group web, rule, ports: "80:443" is no port or range of ports; write '
            "80 or 80-443, one rule for each",
            '13: security group web, rule, protocol: "ipv6-frag" is an extension header of IPv6, '
            "behind which packets are told apart; give the protocol that follows it",
        ],
    ),
    (
        "ports and ICMP where they mean nothing",
        """\
        version: 1
        security_groups:
          web:
          - {direction: to_vm, ports: 80}
          - {direction: to_vm, protocol: icmp, ports: 80}
          - {direction: to_vm, protocol: gre, ports: 80}
          - {direction: to_vm, protocol: 99, ports: 80}
          - {direction: to_vm, protocol: tcp, icmp_type: 8}
          - {direction: to_vm, icmp_type: 8}
          - {direction: to_vm, protocol: icmp, icmp_code: 8}
        """,
        [
            "4: security group web, rule, ports: only some protocols have ports; add protocol: "
            "tcp, or udp",
            "5: security group web, rule, ports: icmp has no ports; use icmp_type and icmp_code",
            "6: security group web, rule, ports: gre has no ports; remove the key",
            "7: security group web, rule, ports: protocol 99 has no ports; remove the key",
            "8: security group web, rule, icmp_type: is for protocol: icmp or icmpv6 alone; set "
            "it, or remove the key",
            "9: security group web, rule, icmp_type: is for protocol: icmp or icmpv6 alone; set "
            "it, or remove the key",
            "10: security group web, rule, icmp_code: a code means something with its type "
            "alone; add icmp_type",
        ],
    ),
    (
        "remote ends",
        """\
        version: 1
        address_groups: {offices: [192.0.2.0/24], broken: [5.5]}
        security_groups:
          web:
          - {direction: to_vm, remote: 10.0.0.0/8, remote_group: web}
          - {direction: to_vm, remote_group: web, address_group: offices}
          - {direction: to_vm, remote_group: wbe}
          - {direction: to_vm, address_group: web}
          - {direction: to_vm, address_group: broken}
          - {direction: to_vm, remote_group: default}
          other: [{direction: to_vm}, {direction: to}]
          third: [{direction: to_vm, remote_group: other}]
        """,
        [
            '2: address group broken: is no text; write one such as "172.17.17.0/24"',
            "5: security group web, rule, remote_group: has both remote and remote_group; keep "
            "one, or write two rules",
            "6: security group web, rule, address_group: has both remote_group and "
            "address_group; keep one, or write two rules",
            '7: security group web, rule, remote_group: security group "wbe" does not exist; did '
            'you mean "web"?',
            '8: security group web, rule, address_group: address group "web" does not exist; '
            "there is broken, offices",
            '11: security group other, rule, direction: "to" is not known; there is from_vm, to_vm',
        ],
    ),
    (
        "address groups of the other family",
        """\
        version: 1
        address_groups:
          six: ["2001:db8::/32", "fd00::1"]
          none: []
        security_groups:
          web:
          - {direction: to_vm, address_group: six}
          - {direction: to_vm, address_group: six, protocol: tcp, ethertype: ipv4}
          - {direction: to_vm, address_group: six, protocol: icmp}
          - {direction: to_vm, address_group: none, ethertype: ipv4}
        """,
        [
            '8: security group web, rule, address_group: "six" has IPv6 prefixes alone, the rule '
            "is for IPv4; add one that fits, or use one family",
            '9: security group web, rule, address_group: "six" has IPv6 prefixes alone, the rule '
            "is for IPv4; add one that fits, or use one family",
        ],
    ),
    (
        "rules that can never match",
        """\
        version: 1
        security_groups:
          web:
          - {direction: to_vm, remote: 224.0.0.0/24}
          - {direction: to_vm, remote: 255.255.255.255}
          - {direction: to_vm, remote: "ff02::1"}
          - {direction: from_vm, remote: "ff02::1"}
          - {direction: to_vm, remote: "2001:db8::/32", ethertype: ipv4}
          - {direction: to_vm, remote: 0.0.0.0/0, ethertype: ipv6}
          - {direction: to_vm, remote: "2001:db8::/32", protocol: icmp}
          - {direction: to_vm, remote: 10.0.0.0/8, protocol: ipv6-icmp}
          - {direction: to_vm, protocol: icmp, ethertype: ipv6}
          - {direction: to_vm, protocol: 58, ethertype: ipv4}
          - {direction: to_vm, protocol: 44, ethertype: ipv6}
          - {direction: to_vm, remote: 127.0.0.1}
          - {direction: to_vm, remote: "::1"}
          - {direction: to_vm, remote: 240.0.0.0/8}
        """,
        [
            "4: security group web, rule, remote: 224.0.0.0/24 is never the source of a packet; "
            "use direction: from_vm",
            "5: security group web, rule, remote: 255.255.255.255/32 is never the source of a "
            "packet; use direction: from_vm",
            "6: security group web, rule, remote: ff02::1/128 is never the source of a packet; "
            "use direction: from_vm",
            "8: security group web, rule, remote: 2001:db8::/32 is an IPv6 prefix, the rule is "
            "for ipv4; use one family",
            "9: security group web, rule, remote: 0.0.0.0/0 is an IPv4 prefix, the rule is for "
            "ipv6; use one family",
            "10: security group web, rule, remote: 2001:db8::/32 is an IPv6 prefix, icmp is IPv4 "
            "alone; use protocol: icmpv6",
            "11: security group web, rule, remote: 10.0.0.0/8 is an IPv4 prefix, icmpv6 is IPv6 "
            "alone; use protocol: icmp",
            "12: security group web, rule, protocol: icmp is IPv4 alone, the rule is for ipv6; "
            "use protocol: icmpv6",
            "13: security group web, rule, protocol: icmpv6 is IPv6 alone, the rule is for ipv4; "
            "use protocol: icmp",
            "14: security group web, rule, protocol: protocol 44 is IPv4 alone, the rule is for "
            "ipv6; use the protocol behind this extension header",
            "15: security group web, rule, remote: 127.0.0.1/32 is never the source of a packet; "
            "remove it",
            "16: security group web, rule, remote: ::1/128 is never the source of a packet; "
            "remove it",
            "17: security group web, rule, remote: 240.0.0.0/8 is never the source of a packet; "
            "use direction: from_vm",
        ],
    ),
    (
        "rules given twice",
        """\
        version: 1
        security_groups:
          web:
          - {direction: from_vm}
          - {direction: from_vm, remote: 0.0.0.0/0}
          - {direction: from_vm, remote: 10.0.0.1}
          - {direction: from_vm, protocol: any, remote: 10.0.0.1/32}
          - {direction: from_vm, protocol: tcp, ports: 80}
          - {direction: from_vm, protocol: 6, ports: 80-80, ethertype: ipv6}
          - {direction: to_vm, remote_group: web}
          - {direction: to_vm, remote_group: web}
          other:
          - {direction: from_vm}
        """,
        [
            '5: security group web, rule: "from_vm to 0.0.0.0/0" is given twice; keep one',
            '7: security group web, rule: "from_vm to 10.0.0.1/32" is given twice; keep one',
            '9: security group web, rule: "from_vm tcp 80 to ::/0" is given twice; keep one',
            '11: security group web, rule: "to_vm ipv4 from group web" is given twice; keep one',
            '11: security group web, rule: "to_vm ipv6 from group web" is given twice; keep one',
        ],
    ),
    (
        "groups of a NIC",
        WEB
        + """\
security_groups: {one: [], two: [{direction: to}]}
machines:
  vm0:
    nics:
    - {network: web, security_groups: [one, two, default, one]}
    - {network: web, security_groups: oen}
    - {network: web, security_groups: [one], port_security: false}
    - {network: web, security_groups: [], port_security: false}
  vm1: {nics: [{network: web, security_groups: }]}
""",
        [
            '4: security group two, rule, direction: "to" is not known; there is from_vm, to_vm',
            '8: machine vm0, nic 0, security_groups: security group "one" is given twice; keep one',
            '9: machine vm0, nic 1, security_groups: security group "oen" does not exist; did you '
            'mean "one"?',
            "10: machine vm0, nic 2, security_groups: have no effect with port_security: false; "
            "remove one of the two",
            "12: machine vm1, nic 0, security_groups: is empty, must be text; for example "
            '"security_groups: [web]"',
        ],
    ),
    (
        "address pairs",
        WEB
        + """\
machines:
  vm0:
    nics:
    - {network: web, address: 10.0.0.7, allowed_address_pairs: [10.0.0.7, 10.0.0.8, 10.0.0.8]}
    - {network: web, allowed_address_pairs: 224.0.0.1}
    - {network: web, allowed_address_pairs: 10.0.0.9, port_security: false}
    - network: web
      address: 10.0.0.6
      allowed_address_pairs:
      - {address: 10.0.0.6, mac: 00:00:5e:00:01:01}
      - {address: 10.0.0.6, mac: 00:00:5e:00:01:02}
  vm1: {nics: [{network: web, allowed_address_pairs: [{mac: fa:16:3e:00:00:01}]}]}
  vm2: {nics: [{network: web, allowed_address_pairs: {address: 10.0.0.1/8, mac: 1}}]}
""",
        [
            "7: machine vm0, nic 0, allowed_address_pairs: 10.0.0.7/32 is an address of this NIC "
            "anyway; remove it",
            "7: machine vm0, nic 0, allowed_address_pairs: 10.0.0.8/32 is given twice; keep one",
            "8: machine vm0, nic 1, allowed_address_pairs: 224.0.0.1/32 is never the source of a "
            "packet; remove it",
            "9: machine vm0, nic 2, allowed_address_pairs: have no effect with port_security: "
            "false; remove one of the two",
            '15: machine vm1, nic 0, allowed_address_pairs, address: key "address" is missing; '
            'for example "address: 10.0.0.100"',
            '16: machine vm2, nic 0, allowed_address_pairs, address: "10.0.0.1/8" has bits '
            'beyond its prefix length; did you mean "10.0.0.0/8"?',
            "16: machine vm2, nic 0, allowed_address_pairs, mac: is no text; write one such as "
            '"fa:16:3e:00:00:01"',
        ],
    ),
    (
        "rates that are none",
        WEB
        + """\
machines:
  vm0: {nics: [{network: web, rate: {from_vm: 7999bit, to_vm: 2tbit}}]}
  vm1: {nics: [{network: web, rate: {from_vm: fast, burst: 1mbit, minimum: 0}}]}
  vm2: {nics: [{network: web, rate: {from_vm: 10mbps, to_vm: true, burst: -5}}]}
  vm3: {nics: [{network: web, rate: 10mbit, dscp: 64, connections: 0}]}
  vm4: {nics: [{network: web, rate: {packets_to_vm: 0, packets_from_vm: 1kpps, packet_burst: 0}}]}
""",
        [
            "5: machine vm0, nic 0, rate, from_vm: 7999bit is less than the kernel can keep; give "
            "8kbit or more",
            "5: machine vm0, nic 0, rate, to_vm: 2tbit is more than any link has; give 1tbit or "
            "less, or leave it out",
            '6: machine vm1, nic 0, rate, from_vm: "fast" is no rate; write one such as 500mbit '
            "or 1gbit",
            '6: machine vm1, nic 0, rate, burst: "1mbit" is no number of bytes; write one such as '
            "64k or 1mb",
            "6: machine vm1, nic 0, rate, minimum: 0 is less than the kernel can keep; give 8kbit "
            "or more",
            '7: machine vm2, nic 0, rate, from_vm: "10mbps" could be bits or bytes; write bits, '
            "such as 500mbit",
            "7: machine vm2, nic 0, rate, to_vm: true is no rate; write one such as 500mbit or "
            "1gbit",
            "7: machine vm2, nic 0, rate, burst: -5 is no number of bytes; write one such as 64k "
            "or 1mb",
            '8: machine vm3, nic 0, rate: is the text "10mbit", must be a mapping of keys; for '
            'example "rate: {to_vm: 1gbit}"',
            "8: machine vm3, nic 0, dscp: is 64; give 63 or less",
            "8: machine vm3, nic 0, connections: is 0; give 1 or more",
            "9: machine vm4, nic 0, rate, packets_from_vm: is the text "
            '"1kpps", must be a whole number; for example "packets_from_vm: 10000"',
            "9: machine vm4, nic 0, rate, packets_to_vm: is 0; give 1 or more",
            "9: machine vm4, nic 0, rate, packet_burst: is 0; give 1 or more",
        ],
    ),
    (
        "rates that do not fit together",
        """\
        version: 1
        networks: {web: {cidr: 10.0.0.0/24, mtu: 9000}, plain: {cidr: 10.1.0.0/24}}
        machines:
          vm0:
            nics:
            - {network: web, rate: {burst: 64k, minimum: 1mbit}}
            - {network: web, rate: {from_vm: 1mbit, burst: 9013}}
            - {network: web, rate: {from_vm: 1mbit, burst: 9014}}
            - {network: web, rate: {from_vm: 1mbit, minimum: 2mbit}}
            - {network: web, rate: {to_vm: 1mbit, minimum: 2mbit}}
            - {network: web, rate: {from_vm: 1gbit, to_vm: 8kbit, burst: 1mb}}
            - {network: web, rate: {from_vm: 1gbit, packet_burst: 5}}
            - {network: plain, rate: {from_vm: 1mbit, burst: 1463}}
        """,
        [
            "6: machine vm0, nic 0, rate, burst: has no effect alone; add from_vm or to_vm",
            "7: machine vm0, nic 1, rate, burst: 9013 bytes is less than a packet (mtu 9000 and "
            "Ethernet); give 9014 or more",
            "9: machine vm0, nic 3, rate, minimum: 2mbit can't be had under from_vm: 1mbit; give "
            "at most that",
            "11: machine vm0, nic 5, rate, burst: 1mb at to_vm: 8kbit last longer than the kernel "
            "can count; give 240000 or less",
            "12: machine vm0, nic 6, rate, packet_burst: has no effect alone; add packets_from_vm "
            "or packets_to_vm",
            "13: machine vm0, nic 7, rate, burst: 1463 bytes is less than a packet (mtu 1450 and "
            "Ethernet); give 1464 or more",
        ],
    ),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [pytest.param(text, expected, id=name) for name, text, expected in CASES],
)
def test_bad_file(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert problems(tmp_path, dedent(text)) == expected


def test_every_message_has_a_remedy() -> None:
    for name, _, expected in CASES:
        assert all("; " in line for line in expected), name


def test_a_nic_may_be_in_so_many_groups(tmp_path: Path) -> None:
    names = [f"g{index}" for index in range(GROUPS_MAX + 1)]
    text = f"{WEB}security_groups: {{{', '.join(f'{name}: []' for name in names)}}}\nmachines:\n"
    nic = "  {}: {{nics: [{{network: web, security_groups: [{}]}}]}}\n"
    text += nic.format("vm0", ", ".join(names[1:])) + nic.format("vm1", ", ".join(names))
    assert problems(tmp_path, text) == [
        f"7: machine vm1, nic 0, security_groups: has {GROUPS_MAX + 1} items; give at most "
        f"{GROUPS_MAX}"
    ]


def test_a_group_may_name_so_many_sets_each_way(tmp_path: Path) -> None:
    """Counted per direction and IP version, as the data plane has room."""
    names = [f"g{index}" for index in range(SETS_MAX)]
    rules = [f"{{direction: to_vm, remote_group: {name}}}" for name in names]
    rules += [f"{{direction: from_vm, remote_group: {name}}}" for name in names]
    rules.append("{direction: to_vm, protocol: tcp, remote_group: g0}")  # a set named before
    rules.append("{direction: to_vm, address_group: a, ethertype: ipv6}")
    text = "version: 1\naddress_groups: {a: []}\nsecurity_groups:\n"
    text += "".join(f"  {name}: []\n" for name in names)
    text += "  full:\n" + "".join(f"  - {rule}\n" for rule in rules)
    assert problems(tmp_path, text) == [
        f"{4 + SETS_MAX}: security group full: names {SETS_MAX + 1} groups as remote ends of to_vm "
        f"(IPv6); give at most {SETS_MAX}, or make a second security group of the rest"
    ]


@pytest.mark.parametrize(
    ("name", "limit"), [("GROUPS_MAX", GROUPS_MAX), ("POLICY_SETS_MAX", SETS_MAX)]
)
def test_limits_are_those_of_the_data_plane(name: str, limit: int) -> None:
    assert f"\t{name} = {limit}," in ABI.read_text()

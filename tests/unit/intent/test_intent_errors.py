"""Every kind of mistake in a topology file, with the exact message it gets."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from intent_problems import problems

from heddle.errors import TopologyError
from heddle.intent.topology import load_topology

# Three lines, on which most cases build.
WEB = """\
version: 1
networks:
  web: {cidr: 10.0.0.0/24}
"""

# Name of the case, the file, and its problems as "line: object: what; remedy".
CASES: list[tuple[str, str, list[str]]] = [
    (
        "unknown section",
        "version: 1\nnetwork: {}\n",
        ['2: network: key "network" is not known; did you mean "networks"?'],
    ),
    (
        "unknown key of a network",
        "version: 1\nnetworks:\n  web: {cidr: 10.0.0.0/24, mut: 1400}\n",
        ['3: network web, mut: key "mut" is not known; did you mean "mtu"?'],
    ),
    (
        "unknown and missing key of a NIC",
        WEB + "machines:\n  vm0: {nics: [{netwrk: web}]}\n",
        [
            '5: machine vm0, nic 0, network: key "network" is missing; for example "network: web"',
            '5: machine vm0, nic 0, netwrk: key "netwrk" is not known; did you mean "network"?',
        ],
    ),
    (
        "nothing",
        "",
        ['1: version: key "version" is missing; start the file with "version: 1"'],
    ),
    (
        "true is not 1",
        "version: true\n",
        ['1: version: is true, which this heddle can\'t read; start the file with "version: 1"'],
    ),
    (
        "another version",
        "version: 2\n",
        [
            "1: version: is the number 2, which this heddle can't read; "
            'start the file with "version: 1"'
        ],
    ),
    (
        "a zone in a prefix",
        "version: 1\nnetworks:\n  web: {cidr: 'fd00::%eth0/64'}\n",
        ['3: network web, cidr: "fd00::%eth0/64" has a zone; leave out "%eth0"'],
    ),
    (
        "a mask for a prefix length",
        "version: 1\nnetworks:\n  web: {cidr: 10.0.0.0/0.0.0.255}\n",
        ['3: network web, cidr: "10.0.0.0/0.0.0.255" has a mask; did you mean "10.0.0.0/24"?'],
    ),
    (
        "name servers that are none",
        "version: 1\nnetworks:\n"
        "  web: {cidr: 10.0.0.0/24, dns: [224.0.0.1, 0.0.0.0, 255.255.255.255]}\n",
        [
            f'3: network web, dns: "{address}" is no address of a server; '
            "write one such as 172.17.17.2"
            for address in ("224.0.0.1", "0.0.0.0", "255.255.255.255")  # noqa: S104
        ],
    ),
    (
        "routes that can't be",
        WEB + "routers:\n  r:\n    networks: [web]\n    routes:\n"
        "      - {to: 239.0.0.0/8, via: 10.0.0.9}\n"
        "      - {to: 10.9.0.0/16, blackhole: false}\n",
        [
            "8: router r, routes: route to 239.0.0.0/8: holds addresses for multicast (RFC 5771); "
            "remove the route",
            "9: router r, routes: route to 10.9.0.0/16: has no next hop, and is no blackhole; "
            "give it via, or blackhole: true",
        ],
    ),
    (
        "merged keys",
        "version: 1\nnetworks:\n  a: &a {cidr: 10.0.0.0/24}\n  b: {<<: *a}\n",
        [
            '4: network b: merging with "<<" is not part of YAML 1.2; write the keys out',
            '4: network b: key "cidr" is missing; for example "cidr: 172.17.17.0/24"',
        ],
    ),
    (
        "control characters",
        'version: 1\nnetworks:\n  "a\\nb": {cidr: "\\e[31m"}\n',
        [
            '3: network a\\nb, cidr: "\\x1b[31m" lacks a prefix length; '
            "write one such as 172.17.17.0/24",
            '3: network a\\nb: "a\\nb" is no usable name; use letters, digits, _, - and ., at most '
            '63, the first no - or .: "a-b"',
        ],
    ),
    ("a list", "- a\n", ['1: is a list; start the file with "version: 1"']),
    ("text", "hello\n", ['1: is the text "hello"; start the file with "version: 1"']),
    (
        "a section of a wrong type",
        "version: 1\nnetworks: [a]\n",
        [
            "2: networks: is a list, must be a mapping of names; "
            'for example "networks: {web: {cidr: 10.0.0.0/24}}"'
        ],
    ),
    (
        "a network of a wrong type",
        "version: 1\nnetworks:\n  web: 10.0.0.0/24\n",
        [
            '3: network web: is the text "10.0.0.0/24", must be a mapping of keys; '
            'for example "networks: {web: {cidr: 10.0.0.0/24}}"'
        ],
    ),
    (
        "networks without a subnet",
        "version: 1\nnetworks:\n  web: {}\n  db:\n",
        [
            '3: network web: key "cidr" is missing; for example "cidr: 172.17.17.0/24"',
            '4: network db: key "cidr" is missing; for example "cidr: 172.17.17.0/24"',
        ],
    ),
    (
        "prefixes",
        """\
        version: 1
        networks:
          a: {cidr: 10.0.0.0}
          b: {cidr: 10.0.0.1/24}
          c: {cidr: 10}
          d: {cidr: 10.0.0.0/31}
          e: {cidr: 127.0.0.0/24}
          f: {cidr: ["fd00::/64", "fe80::/64"]}
          g: {cidr: 10.0.0.0/33}
          h: {cidr: 224.0.0.0/24}
        """,
        [
            '3: network a, cidr: "10.0.0.0" lacks a prefix length; '
            "write one such as 172.17.17.0/24",
            '4: network b, cidr: "10.0.0.1/24" has bits beyond its prefix length; '
            'did you mean "10.0.0.0/24"?',
            '5: network c, cidr: is no text; write one such as "172.17.17.0/24"',
            '6: network d, cidr: "10.0.0.0/31" has no room for a gateway and a guest; '
            "use /30 or shorter",
            '7: network e, cidr: "127.0.0.0/24" holds addresses for loopback (RFC 1122); '
            'use private ones such as 10.0.0.0/24 or "fd00:1::/64"',
            '8: network f, cidr: "fe80::/64" holds addresses for link-local (RFC 4291), which is '
            'never routed; use private ones such as 10.0.0.0/24 or "fd00:1::/64"',
            '9: network g, cidr: "10.0.0.0/33" is no prefix; '
            'write one such as 172.17.17.0/24 or "fd00:17::/64"',
            '10: network h, cidr: "224.0.0.0/24" holds addresses for multicast (RFC 5771); '
            'use private ones such as 10.0.0.0/24 or "fd00:1::/64"',
        ],
    ),
    (
        "subnets of one network overlap",
        "version: 1\nnetworks:\n  web:\n    cidr:\n    - 10.0.0.0/24\n    - 10.0.0.128/25\n",
        [
            "6: network web, cidr: 10.0.0.128/25 overlaps 10.0.0.0/24 of the same network; "
            "choose another prefix"
        ],
    ),
    (
        "numbers of a network",
        """\
        version: 1
        networks:
          a: {cidr: 10.1.0.0/24, mtu: 100}
          b: {cidr: "fd00::/64", mtu: 1000}
          c: {cidr: 10.1.0.0/24, mtu: "1450"}
          d: {cidr: 10.1.0.0/24, mtu: 9300, vni: 0}
          e: {cidr: 10.1.0.0/24, vni: 16777216}
          f: {cidr: 10.1.0.0/24, vni: 5}
          g: {cidr: 10.1.0.0/24, vni: 5}
          h: {cidr: 10.1.0.0/24, mtu: true}
        """,
        [
            "3: network a, mtu: is 100; give 576 or more",
            "4: network b, mtu: 1000 is too small for IPv6 (RFC 8200); give 1280 or more",
            '5: network c, mtu: is the text "1450", must be a whole number; '
            'for example "mtu: 1450"',
            "6: network d, mtu: is 9300; give 9216 or less",
            "6: network d, vni: is 0; give 1 or more",
            "7: network e, vni: is 16777216; give 16777214 or less",
            '9: network g, vni: 5 is the VNI of network "f" too; give each its own',
            '10: network h, mtu: is true, must be a whole number; for example "mtu: 1450"',
        ],
    ),
    (
        "names for guests",
        """\
        version: 1
        networks:
          a: {cidr: 10.0.0.0/24, domain: -bad-}
          b: {cidr: 10.0.0.0/24, dns: "fd00::1"}
          c: {cidr: 10.0.0.0/24, dns: [10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5]}
          d: {cidr: {cidr: 10.0.0.0/24, dns: "fd00::1"}}
        """,
        [
            "3: network a, domain: '-bad-' is no domain name; write one such as web.example",
            "4: network b, dns: fd00::1: the network has no IPv6 subnet; remove it",
            "5: network c, dns: has 5 IPv4 servers; give at most 4",
            "6: network d, cidr, dns: fd00::1 is of another address family than 10.0.0.0/24; "
            "remove it",
        ],
    ),
    (
        "gateways",
        """\
        version: 1
        networks:
          a: {cidr: {cidr: 10.3.0.0/24, gateway: 10.4.0.1}}
          b: {cidr: {cidr: 10.3.0.0/24, gateway: 10.3.0.255}}
          c: {cidr: {cidr: "fd05::/64", gateway: "fd05::"}}
        """,
        [
            "3: network a, cidr, gateway: 10.4.0.1 is outside 10.3.0.0/24; "
            "choose one from 10.3.0.1 to 10.3.0.254",
            "4: network b, cidr, gateway: 10.3.0.255 is the broadcast address of 10.3.0.0/24; "
            "choose one from 10.3.0.1 to 10.3.0.254",
            "5: network c, cidr, gateway: fd05:: is the subnet-router anycast address of "
            "fd05::/64; choose one from fd05::1 to fd05::ffff:ffff:ffff:ffff",
        ],
    ),
    (
        "IPv6 modes",
        """\
        version: 1
        networks:
          a: {cidr: {cidr: "fd01::/80", ipv6_mode: slaac}}
          b: {cidr: {cidr: 10.0.0.0/24, ipv6_mode: slaac}}
          c: {cidr: {cidr: "fd02::/64", dhcp: false, ipv6_mode: slaac}}
          d: {cidr: {cidr: "fd02::/64", ipv6_mode: dhcpv6}}
        """,
        [
            '3: network a, cidr, ipv6_mode: "slaac" needs a /64, fd01::/80 is none; '
            "use /64 or dhcpv6-stateful",
            "4: network b, cidr, ipv6_mode: 10.0.0.0/24 is an IPv4 subnet; remove the key",
            "5: network c, cidr, ipv6_mode: has no effect with dhcp: false; remove one of the two",
            '6: network d, cidr, ipv6_mode: "dhcpv6" is not known; '
            "there is dhcpv6-stateful, dhcpv6-stateless, slaac",
        ],
    ),
    (
        "routes for guests",
        """\
        version: 1
        networks:
          a: {cidr: {cidr: 10.3.0.0/24, host_routes: [{to: 10.9.0.0/16, via: 10.4.0.1}]}}
          b: {cidr: {cidr: 10.3.0.0/24, host_routes: [{to: "fd00::/16", via: 10.3.0.2}]}}
          c: {cidr: {cidr: "fd07::/64", host_routes: [{to: "fd00::/16", via: "fd07::9"}]}}
        """,
        [
            "3: network a, cidr, host_routes, via: 10.4.0.1 is outside 10.3.0.0/24; "
            "choose a next hop in it",
            "4: network b, cidr, host_routes: fd00::/16 via 10.3.0.2: all of it must be IPv4, "
            "as 10.3.0.0/24 is; use one family",
            "5: network c, cidr, host_routes, via: fd07::9: IPv6 guests learn routes by the "
            "gateway alone; use fd07::1",
        ],
    ),
    (
        "what is not in this release",
        """\
        version: 1
        networks:
          web: {cidr: 10.0.0.0/24, mode: nat}
          lan: {mode: bridged, uplink: eth1, vlan: 20}
        routers:
          main: {networks: [web], external: nat}
        machines:
          vm0:
            nics:
            - network: web
              forward: []
        """,
        [
            '3: network web, mode: "nat" is not in this release; use overlay',
            '4: network lan, uplink: "uplink" is not in this release; remove it',
            '4: network lan, vlan: "vlan" is not in this release; remove it',
            '4: network lan, mode: "bridged" is not in this release; use overlay',
            '6: router main, external: "external" is not in this release; remove it',
            '11: machine vm0, nic 0, forward: "forward" is not in this release; remove it',
        ],
    ),
    (
        "names that lead nowhere",
        WEB
        + """\
routers:
  main: {networks: [web, nowhere]}
machines:
  vm0: {nics: [{network: wbe}]}
""",
        [
            '5: router main, networks: network "nowhere" does not exist; there is web',
            '7: machine vm0, nic 0, network: network "wbe" does not exist; did you mean "web"?',
        ],
    ),
    (
        "a broken network is no dangling name",
        "version: 1\nnetworks:\n  web: {cidr: 10}\nmachines:\n  vm0: {nics: [{network: web}]}\n",
        ['3: network web, cidr: is no text; write one such as "172.17.17.0/24"'],
    ),
    (
        "a next hop that may be in a broken network",
        """\
        version: 1
        networks:
          web: {cidr: 10}
        routers:
          main: {networks: [web], routes: [{to: 10.9.0.0/16, via: 10.0.0.9}]}
        """,
        ['3: network web, cidr: is no text; write one such as "172.17.17.0/24"'],
    ),
    (
        "a gateway at the end of its subnet",
        """\
        version: 1
        networks:
          web: {cidr: {cidr: 10.0.0.0/24, gateway: 10.0.0.254}}
        machines:
          vm0: {nics: [{network: web, address: 10.0.0.254}]}
        """,
        [
            "5: machine vm0, nic 0, address: 10.0.0.254 is the gateway address of 10.0.0.0/24; "
            "choose another from 10.0.0.1 to 10.0.0.253"
        ],
    ),
    (
        "machines",
        """\
        version: 1
        machines:
          vm0: {kind: vn}
          vm1: {cpus: two}
          vm2: {cpus: 0, memory: 10M}
          vm3: {memory: 256}
          vm4: {memory: lots}
          vm5: {image: tinny}
          vm6: {image: ./no-such.qcow2}
          vm7: {image: 5}
          vm8: {cpus: 1.5}
          vm9: {nics: [web]}
          vm10: {nics: {network: web}}
        """,
        [
            '3: machine vm0, kind: "vn" is not known; there is container, vm',
            '4: machine vm1, cpus: is the text "two", must be a whole number; '
            'for example "cpus: 2"',
            "5: machine vm2, cpus: is 0; give 1 or more",
            "5: machine vm2, memory: 10M is less than 64 MiB; give 64M or more",
            "6: machine vm3, memory: 256 is less than 64 MiB; did you mean 256M?",
            "7: machine vm4, memory: 'lots' is no size; write one such as 256M or 1G",
            '8: machine vm5, image: "tinny" is neither a file nor built in; did you mean "tiny"?',
            '9: machine vm6, image: "./no-such.qcow2" is neither a file nor built in; give the '
            "path of a qcow2 or raw file; it starts at the topology file",
            '10: machine vm7, image: is the number 5, must be text; put it in quotes: "5"',
            "11: machine vm8, cpus: is the number 1.5, must be a whole number; "
            'for example "cpus: 2"',
            '12: machine vm9, nic 0: is the text "web", must be a mapping of keys; '
            'for example "nics: [{network: web, address: 172.17.17.2}]"',
            "13: machine vm10, nics: is a mapping, must be a list; "
            'for example "nics: [{network: web, address: 172.17.17.2}]"',
        ],
    ),
    (
        "names",
        """\
        version: 1
        networks:
          a b: {cidr: 10.0.0.0/24}
        machines:
          vm_0: {}
          vm1: {}
          VM1: {}
          "": {}
        """,
        [
            '3: network a b: "a b" is no usable name; use letters, digits, _, - and ., at most '
            '63, the first no - or .: "a-b"',
            '5: machine vm_0: "vm_0" is no usable name; use letters, digits and -, at most 63, '
            'no - at either end: "vm-0"',
            '7: machine VM1: differs from machine "vm1" only in case; choose another name',
            '8: machine "": "" is no usable name; use letters, digits and -, at most 63, '
            "no - at either end",
        ],
    ),
    (
        "addresses",
        WEB
        + """\
machines:
  vm0: {nics: [{network: web, address: 10.0.1.2}]}
  vm1: {nics: [{network: web, address: 10.0.0.1}]}
  vm2: {nics: [{network: web, address: 10.0.0.0}]}
  vm3: {nics: [{network: web, address: 10.0.0.255}]}
  vm4: {nics: [{network: web, address: 10.0.0.4}]}
  vm5: {nics: [{network: web, address: 10.0.0.4}]}
  vm6: {nics: [{network: web, address: "fd00::1"}]}
  vm7: {nics: [{network: web, address: 10.0.0.7/24}]}
  vm8: {nics: [{network: web, address: [10.0.0.8, 10.0.0.8]}]}
  vm9: {nics: [{network: web, address: 10.0.0.999}]}
  vm10: {nics: [{network: web, address: "fe80::1%eth0"}]}
  vm11: {nics: [{network: web, address: }]}
""",
        [
            '5: machine vm0, nic 0, address: 10.0.1.2 is outside network "web" (10.0.0.0/24); '
            "choose one from 10.0.0.2 to 10.0.0.254",
            "6: machine vm1, nic 0, address: 10.0.0.1 is the gateway address of 10.0.0.0/24; "
            "choose another from 10.0.0.2 to 10.0.0.254",
            "7: machine vm2, nic 0, address: 10.0.0.0 is the network address of 10.0.0.0/24; "
            "choose another from 10.0.0.2 to 10.0.0.254",
            "8: machine vm3, nic 0, address: 10.0.0.255 is the broadcast address of "
            "10.0.0.0/24; choose another from 10.0.0.2 to 10.0.0.254",
            '10: machine vm5, nic 0, address: 10.0.0.4 is taken by NIC 0 of machine "vm4"; '
            "choose another, or leave it out",
            '11: machine vm6, nic 0, address: fd00::1 is outside network "web" (10.0.0.0/24); '
            "remove it, or give the network an IPv6 subnet",
            '12: machine vm7, nic 0, address: "10.0.0.7/24" has a prefix length; give the '
            "address alone, the length is the subnet's",
            "13: machine vm8, nic 0, address: 10.0.0.8 is given twice; keep one",
            '14: machine vm9, nic 0, address: "10.0.0.999" is no IP address; '
            "write one such as 172.17.17.2 or fd00::2",
            '15: machine vm10, nic 0, address: "fe80::1%eth0" has a zone; leave out "%eth0"',
            '16: machine vm11, nic 0, address: is no text; write one such as "172.17.17.2"',
        ],
    ),
    (
        "a chosen address where guests form their own",
        """\
        version: 1
        networks:
          six: {cidr: {cidr: "fd00::/64", ipv6_mode: slaac}}
        routers: {main: {networks: [six]}}
        machines:
          vm0: {nics: [{network: six, address: "fd00::5", mac: fa:16:3e:00:00:05}]}
        """,
        [
            "6: machine vm0, nic 0, address: fd00::5: guests of fd00::/64 form their own address "
            "(slaac), here fd00::f816:3eff:fe00:5; leave it out, or make the subnet "
            '{cidr: "fd00::/64", ipv6_mode: dhcpv6-stateful}'
        ],
    ),
    (
        "an address of a router",
        """\
        version: 1
        networks:
          web: {cidr: 10.0.0.0/24}
        routers:
          main: {networks: [{network: web, address: 10.0.0.9}]}
        machines:
          vm0: {nics: [{network: web, address: 10.0.0.9}]}
        """,
        [
            '7: machine vm0, nic 0, address: 10.0.0.9 is taken by router "main"; '
            "choose another, or leave it out"
        ],
    ),
    (
        "MACs",
        WEB
        + """\
  db: {cidr: 10.1.0.0/24}
machines:
  vm0: {nics: [{network: web, mac: 52:54:00:00:00:01}]}
  vm1: {nics: [{network: web, mac: 52-54-00-00-00-01}]}
  vm2: {nics: [{network: web, mac: 01:00:00:00:00:01}]}
  vm3:
    nics:
    - {network: web, mac: 12:34:56:12:34:56}
    - {network: db, mac: 12:34:56:12:34:56}
  vm4: {nics: [{network: web, mac: 52:54}]}
  vm5: {nics: [{network: web, mac: 00:00:00:00:00:00}]}
""",
        [
            '7: machine vm1, nic 0, mac: 52:54:00:00:00:01 is the MAC of NIC 0 of machine "vm0" '
            'in network "web" too; give each its own',
            '8: machine vm2, nic 0, mac: "01:00:00:00:00:01" is a multicast MAC; '
            "make its first byte even",
            "12: machine vm3, nic 1, mac: 12:34:56:12:34:56 is the MAC of another NIC of this "
            "machine; give each its own",
            '13: machine vm4, nic 0, mac: "52:54" is no MAC; '
            "write six bytes such as fa:16:3e:00:00:01",
            '14: machine vm5, nic 0, mac: "00:00:00:00:00:00" is no usable MAC; '
            "leave it out to get one",
        ],
    ),
    (
        "too many NICs",
        WEB + "machines:\n  vm0:\n    nics:\n" + "    - {network: web}\n" * 25,
        ["6: machine vm0, nics: has 25 items; give at most 24"],
    ),
    (
        "routers",
        WEB
        + """\
  db: {cidr: 10.0.0.0/16}
  app: {cidr: 10.2.0.0/24}
routers:
  a: {networks: [web, db]}
  b: {networks: [web, app, app]}
  c:
    networks:
    - {network: web, address: 10.9.0.1}
    - {network: app, address: [10.2.0.7, 10.2.0.8]}
  d: {networks: [{network: app, address: 10.2.0.255}]}
  e: {networks: [{netwrok: app}]}
""",
        [
            '7: router a, networks: 10.0.0.0/16 of network "db" overlaps 10.0.0.0/24 of "web", '
            "which the router joins too; choose another prefix",
            '8: router b, networks: network "app" is joined twice; remove one',
            '8: router b, networks: 10.0.0.1 of network "web" belongs to router "a"; give this '
            "one an address of its own: {network: web, address: 10.0.0.254}",
            '11: router c, networks, address: 10.9.0.1 is outside network "web" (10.0.0.0/24); '
            "choose one inside",
            "12: router c, networks, address: 10.2.0.8 is a second address in 10.2.0.0/24; "
            "give one per subnet",
            "13: router d, networks, address: 10.2.0.255 is the broadcast address of "
            "10.2.0.0/24; choose one from 10.2.0.1 to 10.2.0.254",
            '14: router e, networks, network: key "network" is missing; for example "network: web"',
            '14: router e, networks, netwrok: key "netwrok" is not known; did you mean "network"?',
        ],
    ),
    (
        "static routes",
        WEB
        + """\
routers:
  main:
    networks: [web]
    routes:
    - {to: 10.9.0.0/16, via: 10.8.0.1}
    - {to: 10.9.0.0/16}
    - {to: 10.0.0.0/24, via: 10.0.0.5}
    - {to: "fd00::/16", via: 10.0.0.5}
    - {to: 10.7.0.0/16, via: 10.0.0.255}
    - {to: 10.6.0.0/16, via: 10.0.0.5, blackhole: true}
    - {to: 10.5.0.0/16, via: 10.0.0.1}
""",
        [
            "8: router main, routes: route to 10.9.0.0/16: 10.8.0.1 is in none of the router's "
            "networks (10.0.0.0/24); use a next hop in one, or join its network",
            "9: router main, routes: route to 10.9.0.0/16: given twice; keep one",
            "10: router main, routes: route to 10.0.0.0/24: the router joins this subnet itself; "
            "remove the route",
            "11: router main, routes: route to fd00::/16: 10.0.0.5 is of another address family; "
            "use an IPv6 next hop",
            "12: router main, routes: route to 10.7.0.0/16: 10.0.0.255 is the broadcast address "
            "of 10.0.0.0/24; use one from 10.0.0.1 to 10.0.0.254",
            "13: router main, routes: route to 10.6.0.0/16: has both via and blackhole; keep one",
            "14: router main, routes: route to 10.5.0.0/16: 10.0.0.1 is the router's own "
            "address; use a next hop behind it",
        ],
    ),
    (
        "a key twice, and what else is wrong",
        WEB + "  web: {cidr: 10.1.0.0/24}\n  db: {cidr: 10.1.0.0}\n",
        [
            '4: networks: "web" is given twice, first on line 3; keep one of them',
            '5: network db, cidr: "10.1.0.0" lacks a prefix length; '
            "write one such as 172.17.17.0/24",
        ],
    ),
    (
        "a key that is no text",
        "version: 1\nnetworks:\n  ? [a]\n  : {}\n",
        ["3: networks: a key must be text; write a name before the colon"],
    ),
    (
        "an indent of tabs",
        "version: 1\nnetworks:\n\tweb: {}\n",
        [
            "3: not valid YAML: while scanning for the next token, found character that cannot "
            "start any token; indent with spaces, never with tabs"
        ],
    ),
    (
        "brackets",
        "version: 1\nnetworks: {web: {cidr: 10.0.0.0/24}\nrouters: {}\n",
        [
            "3: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'; "
            'check indentation and brackets, and quote text that holds ": " or " #"'
        ],
    ),
    (
        "an IPv6 address that needs quotes",
        'version: 1\nnetworks: {web: {cidr: "fd00::/64", dns: fd00::}}\n',
        [
            "2: not valid YAML: while scanning a plain scalar, found unexpected ':'; "
            'put quotes around IPv6 addresses: "fd00::2"'
        ],
    ),
    (
        "two documents",
        "version: 1\n---\nversion: 1\n",
        ["2: a second document starts here; keep one per file"],
    ),
    (
        "a tag",
        "version: 1\nnetworks: !!python/name:os.system {}\n",
        ['2: networks: tag "tag:yaml.org,2002:python/name:os.system" is not known; remove it'],
    ),
    (
        "a tag that its value contradicts",
        "version: !!int one\n",
        [
            '1: version: tag "tag:yaml.org,2002:int" is not known; remove it',
            '1: version: is the text "one", which this heddle can\'t read; '
            'start the file with "version: 1"',
        ],
    ),
    (
        "an alias of itself",
        "version: 1\nnetworks: &a {web: *a}\n",
        ["2: network web: aliases make this endless; write the values out"],
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


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    with pytest.raises(TopologyError) as caught:
        load_topology(file)
    message = f"{file}: No such file or directory; give the path of a readable topology file"
    assert str(caught.value) == message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "image.qcow2"
    file.write_bytes(b"QFI\xfb\x00\x00\x00\x03\n\xff\xff")
    with pytest.raises(TopologyError, match=r"image\.qcow2:1: this is not UTF-8 text; save it"):
        load_topology(file)


def test_aliases_of_aliases_do_not_take_all_memory(tmp_path: Path) -> None:
    rows = ["a0: &a0 [1]"]
    rows += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]
    assert "aliases make this endless" in problems(tmp_path, "\n".join(rows))[0]


def test_control_characters(tmp_path: Path) -> None:
    (message,) = problems(tmp_path, "version: 1\nnetworks: \x01\n")
    assert message.startswith("1: not YAML: unacceptable character #x0001")
    assert message.endswith("; save it as plain text")


def test_a_name_that_no_file_can_have_is_no_image(tmp_path: Path) -> None:
    text = "version: 1\nmachines: {vm0: {image: " + "x" * 5000 + "}}\n"
    (problem,) = problems(tmp_path, text)
    assert "is neither a file nor built in" in problem

"""Topologies that several tests use."""

# Two containers in two subnets, IPv4 and IPv6, joined by a router.
ROUTED = """
version: 1
networks:
  web: {cidr: [10.1.0.0/24, {cidr: "fd00:1::/64", ipv6_mode: dhcpv6-stateful}]}
  db: {cidr: [10.2.0.0/24, {cidr: "fd00:2::/64", ipv6_mode: dhcpv6-stateful}], mtu: 1400}
routers:
  main: {networks: [web, db]}
machines:
  c0:
    kind: container
    nics: [{network: web, address: [10.1.0.10, "fd00:1::10"]}]
  c1:
    kind: container
    nics: [{network: db, address: [10.2.0.10, "fd00:2::10"]}]
"""

# Two networks that nothing joins.
SEPARATE = """
version: 1
networks:
  red: {cidr: 10.1.0.0/24}
  blue: {cidr: 10.1.0.0/24}
machines:
  red0: {kind: container, nics: [{network: red, address: 10.1.0.10}]}
  red1: {kind: container, nics: [{network: red, address: 10.1.0.11}]}
  blue0: {kind: container, nics: [{network: blue, address: 10.1.0.10}]}
  blue1: {kind: container, nics: [{network: blue, address: 10.1.0.11}]}
"""

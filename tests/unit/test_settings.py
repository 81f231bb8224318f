"""heddle.toml: what an operator says of a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from heddle.errors import RequestError
from heddle.settings import EtcdSettings, HostSettings, Member, read_settings


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "heddle.toml") == HostSettings(capacity=0)


def test_a_capacity_is_a_rate(tmp_path: Path) -> None:
    file = tmp_path / "heddle.toml"
    file.write_text('capacity = "10gbit"\n')
    assert read_settings(file).capacity == 10_000_000_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('capcity = "10gbit"', "unknown key capcity; known: capacity, host, store, migration"),
        ('capacity = "fast"', "capacity: "),
        ("capacity = 1", "capacity: 1 is less than the kernel can keep"),
        ("capacity = true", "is no rate"),
        ("capacity: 10gbit", "it must be TOML"),
        ("host = 5", "host is a table: write [host] above its keys"),
        ('[host]\nvtp = "192.0.2.1"', "unknown key host.vtp; known: vtep, udp_port, envelopes"),
        ('[host]\nvtep = "h1"', "host.vtep: 'h1' does not appear to be an IPv4 or IPv6 address"),
        ('[host]\nvtep = "224.0.0.1"', "host.vtep: 224.0.0.1 is no address that other hosts"),
        ('[host]\nvtep = "fe80::1"', "host.vtep: fe80::1 holds on one link only"),
        ("[host]\nudp_port = 70000", "host.udp_port: 70000 is no UDP port: 1 to 65535"),
        ('[host]\nenvelopes = "fast"', "host.envelopes: 'fast' is none of direct, stack"),
        ("[host]\nudp_port = true", "host.udp_port: True is no UDP port"),
        ('[store]\nuser = "heddle"', "store.etcd is missing"),
        ('[store]\netcd = "http://192.0.2.1"', "store.etcd: a list is wanted"),
        ("[store]\netcd = []", "store.etcd: a list is wanted"),
        ('[store]\netcd = ["192.0.2.1:2379"]', "store.etcd: '192.0.2.1:2379' is no endpoint"),
        ('[store]\netcd = ["http://h:99999"]', "store.etcd: 'http://h:99999' is no endpoint"),
        ('[store]\netcd = ["http://h"]\nuser = "u"', "store.user and store.password_file go"),
        ('[store]\netcd = ["http://h"]\npassword = "u"', "unknown key store.password; known: etcd"),
        ('[store]\netcd = ["https://h"]\ncert = "c"', "store.cert and store.key go together"),
        ('[store]\netcd = ["http://h"]\nca = "c"', "are for https:// endpoints"),
        ('[migration]\nuri = "qemu:///system"', "migration.uri: it must name the other host"),
        ('[migration]\nuri = "qemu://{name}/"', "migration.uri: it must name the other host"),
        ('[migration]\ndata = "rdma"', "migration.data: 'rdma' is none of tunnel, tls, plain"),
        ("[migration]\ntimeout = 0", "migration.timeout: 0 is no number of seconds"),
        ("[migration]\ntime = 1", "unknown key migration.time; known: uri, data, timeout"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "heddle.toml"
    file.write_text(text)
    with pytest.raises(RequestError) as raised:
        read_settings(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert words in str(raised.value)


def test_how_vms_move(tmp_path: Path) -> None:
    file = tmp_path / "heddle.toml"
    assert read_settings(file).migration == ("qemu+tls://{host}/system", "tunnel", 600.0)
    file.write_text(
        '[migration]\nuri = "qemu+tcp://{address}/system"\ndata = "plain"\ntimeout = 60\n'
    )
    assert read_settings(file).migration == ("qemu+tcp://{address}/system", "plain", 60.0)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="Is a directory"):
        read_settings(tmp_path)


def test_a_host_in_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "heddle.toml"
    file.write_text(
        """
[host]
vtep = "2001:DB8::1"
udp_port = 8472
envelopes = "stack"

[store]
etcd = ["https://etcd1.example", "https://[2001:db8::5]:12379/"]
user = "heddle"
password_file = "etcd.password"
ca = "/etc/ssl/ca.crt"
"""
    )
    assert read_settings(file) == HostSettings(
        vtep="2001:db8::1",
        udp_port=8472,
        envelopes="stack",
        etcd=EtcdSettings(
            endpoints=(
                Member("https://etcd1.example:2379", "etcd1.example", 2379, True),
                Member("https://[2001:db8::5]:12379", "2001:db8::5", 12379, True),
            ),
            user="heddle",
            password_file=tmp_path / "etcd.password",
            ca=Path("/etc/ssl/ca.crt"),
        ),
    )

"""Whether a process holds a TAP."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest

from heddle.applier import tap
from heddle.hypervisor.interfaces import is_deserted, is_there


@pytest.fixture
def device() -> Iterator[str]:
    """A TAP that lives on without a holder."""
    name = "tap" + secrets.token_hex(4)
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap", "vnet_hdr"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


def set_link(device: str, state: str) -> None:
    subprocess.run(["ip", "link", "set", device, state], check=True)


def test_a_device_is_there_or_not(device: str) -> None:
    assert is_there(device)
    assert not is_there("tap" + secrets.token_hex(4))
    assert not is_deserted("tap" + secrets.token_hex(4))


def test_a_tap_is_deserted_until_somebody_opens_it(device: str) -> None:
    """And known not to be at once, again and again."""
    set_link(device, "up")
    for _ in range(50):
        assert is_deserted(device)
        holder = tap.attach(device)
        assert not is_deserted(device)
        os.close(holder)


def test_a_tap_that_is_down_does_not_tell(device: str) -> None:
    set_link(device, "down")
    assert not is_deserted(device)

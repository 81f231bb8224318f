"""What QEMU's guest agent does for us: run commands, tell addresses.

Requests are JSON through libvirt (https://qemu-project.gitlab.io/qemu/interop/
qemu-ga-ref.html).
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

import libvirt
import libvirt_qemu

from heddle.errors import HypervisorError

Address = IPv4Address | IPv6Address

_ANSWER_SECONDS = 5  # until a guest that does not answer counts as hung
_FIRST_POLL_SECONDS = 0.01
_LONGEST_POLL_SECONDS = 0.25
_COULD_NOT_RUN = 127  # as shells report it


class ExecResult(NamedTuple):
    """What a command in a machine did. A signal counts as 128 + its number."""

    code: int
    out: bytes
    err: bytes


def run(domain: libvirt.virDomain, argv: Sequence[str], timeout: float | None) -> ExecResult:
    """Run a command in the guest, without standard input, and wait for its end.

    ``timeout`` is in seconds, None waits for ever. Raises HypervisorError when
    the guest agent does not answer or the time is over.
    """
    request = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    try:
        pid = _ask(domain, "guest-exec", request)["pid"]
    except libvirt.libvirtError as error:
        if "Failed to execute child process" not in error.get_error_message():
            raise
        return ExecResult(_COULD_NOT_RUN, b"", f"{argv[0]}: not found in the guest\n".encode())
    status = _wait(domain, pid, argv[0], timeout)
    code = 128 + status["signal"] if "signal" in status else status.get("exitcode", 0)
    out, err = (base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data"))
    return ExecResult(code, out, err)


def addresses(domain: libvirt.virDomain) -> dict[str, set[Address]]:
    """Addresses of the guest's NICs by MAC (lower case, with colons)."""
    found: dict[str, set[Address]] = {}
    for interface in _ask(domain, "guest-network-get-interfaces", {}):
        mac = interface.get("hardware-address", "").lower()
        for entry in interface.get("ip-addresses", ()):
            found.setdefault(mac, set()).add(ip_address(entry["ip-address"]))
    return found


def _wait(
    domain: libvirt.virDomain, pid: int, program: str, timeout: float | None
) -> dict[str, Any]:
    """Poll, since the agent has no way to call back, until a command has ended."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = _FIRST_POLL_SECONDS
    while True:
        status: dict[str, Any] = _ask(domain, "guest-exec-status", {"pid": pid})
        if status["exited"]:
            return status
        if deadline is not None and time.monotonic() > deadline:
            raise HypervisorError(
                f"machine {domain.name()}: {program} still runs after {timeout:g} s: "
                "allow it more time, or end it in the guest"
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_POLL_SECONDS)


def _ask(domain: libvirt.virDomain, command: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 JSON
    request = json.dumps({"execute": command, "arguments": arguments})
    answer = libvirt_qemu.qemuAgentCommand(domain, request, _ANSWER_SECONDS, 0)
    return json.loads(answer)["return"]

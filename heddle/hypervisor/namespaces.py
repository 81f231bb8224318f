"""Commands in a container, which is a network namespace of the host.

A container shares the host's files. Only ``/etc/resolv.conf`` is its own: `ip
netns exec` lays what is under ``/etc/netns/<namespace>`` over ``/etc``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from heddle.errors import HypervisorError
from heddle.hypervisor.guest_agent import ExecResult
from heddle.intent.names import namespace_name

_NAMESPACES = Path("/run/netns")


def exec_in_container(name: str, argv: Sequence[str], timeout: float | None) -> ExecResult:
    """Run a command in container ``name`` and wait for its end, at most ``timeout`` seconds."""
    try:
        done = subprocess.run(
            command_in_container(name, argv),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise HypervisorError(
            f"machine {name}: {argv[0]} still ran after {timeout:g} s and was ended: "
            "allow it more time"
        ) from error
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return ExecResult(code, done.stdout, done.stderr)


def command_in_container(name: str, argv: Sequence[str]) -> list[str]:
    """``argv`` with what enters container ``name`` before it."""
    namespace = namespace_name(name)
    if not (_NAMESPACES / namespace).exists():
        raise HypervisorError(f"machine {name} does not run: heddle show machine {name} tells why")
    # Through a shell for its exit code 127, which `ip netns exec` does not give.
    return ["ip", "netns", "exec", namespace, "sh", "-c", 'exec "$@"', "sh", *argv]


def shell_command(name: str) -> list[str]:
    """The command that gives a person a shell in container ``name``."""
    return command_in_container(name, ["sh"])

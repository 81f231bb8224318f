"""Commands in a container, which is a network namespace of the host.

A container shares the host's files. Only ``/etc/resolv.conf`` is its own: `ip
netns exec` lays what is under ``/etc/netns/<namespace>`` over ``/etc``.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from heddle.applier.namespaces import has_root_mount
from heddle.compiler.state import MachineSpec
from heddle.errors import HypervisorError
from heddle.hypervisor.guest_agent import ExecResult
from heddle.intent.names import namespace_name

_NAMESPACES = Path("/run/netns")
_CONFIGURATION = Path("/etc/netns")


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
    return [*_entering(namespace), "sh", "-c", 'exec "$@"', "sh", *argv]


def _entering(namespace: str) -> list[str]:
    """`ip netns exec` makes mounts of its own below `/`, and gives up where `/` is none, as
    in a chroot: there a container has the name servers of its host."""
    if has_root_mount():
        return ["ip", "netns", "exec", namespace]
    return ["nsenter", f"--net={_NAMESPACES / namespace}", "--"]


def shell_command(name: str) -> list[str]:
    """The command that gives a person a shell in container ``name``."""
    return command_in_container(name, ["sh"])


def write_resolver(spec: MachineSpec) -> None:
    """Give a container its name servers."""
    file = _resolver(spec.name)
    servers = dict.fromkeys(server for nic in spec.nics for server in nic.dns)
    text = "".join(f"nameserver {server}\n" for server in servers)
    if not text:
        forget_resolver(spec.name)
    elif not file.exists() or file.read_text() != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def forget_resolver(name: str) -> None:
    """Take away what ``write_resolver`` wrote."""
    file = _resolver(name)
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # absent, or somebody else's files are in it
        file.parent.rmdir()


def forget_resolvers_of_the_gone() -> None:
    """The same for every container whose namespace is no more."""
    for folder in _CONFIGURATION.glob(namespace_name("*")):
        if not (_NAMESPACES / folder.name).exists():
            forget_resolver(folder.name.removeprefix(namespace_name("")))


def _resolver(name: str) -> Path:
    return _CONFIGURATION / namespace_name(name) / "resolv.conf"

"""Exceptions that carry a message for a person.

    HeddleError                 base; never raised itself
    +-- RequestError            the user asked for something wrong: exit code 2
    |   +-- TopologyError       a topology file is wrong: file, line, object, remedy
    |   +-- ConflictError       intent contradicts other intent in the store
    |   +-- CompileError        intent asks for more than the data plane can hold
    |   +-- NotFoundError       the named object does not exist
    +-- OperationError          the request was right, carrying it out failed: exit code 1
        +-- StoreError          the store could not read or write
        +-- KernelError         the kernel refused, or lacks a feature
        +-- HypervisorError     libvirt, QEMU or a guest refused
        +-- AgentError          the agent does not run or does not answer

A message is one line that names the object and says what to do.
"""

from __future__ import annotations


class HeddleError(Exception):
    """Base of every error that the command line shows without a traceback."""

    exit_code = 1


class RequestError(HeddleError):
    """The request was wrong; the user should change it."""

    exit_code = 2


class TopologyError(RequestError):
    """A topology file is wrong. The message starts with ``file:line:``."""


class ConflictError(RequestError):
    """The request contradicts intent that something else owns."""


class CompileError(RequestError):
    """An object asks for more than the data plane can hold."""


class NotFoundError(RequestError):
    """The named object does not exist."""


class OperationError(HeddleError):
    """The request was right, but carrying it out failed."""


class StoreError(OperationError):
    """The store could not read or write."""


class KernelError(OperationError):
    """The kernel refused a change, or lacks a feature."""


class HypervisorError(OperationError):
    """libvirt, QEMU or a guest refused."""


class AgentError(OperationError):
    """The agent does not run or does not answer."""


def printable(text: str) -> str:
    """The text on one line, with what a terminal would act upon as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

"""What the applier needs from a kernel: facts to read, and writes that tell
which of many items failed and why.

``LinuxKernel`` (linux.py) is the real one, ``FakeKernel`` (fake.py) behaves the
same in memory. Failures go by the name or key of the item; an item that failed
is as it was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from heddle.applier.shaping import Allowance, ShaperFact
from heddle.compiler.state import QUEUE, Link, Tunnel
from heddle.datapath.codec import Codec


class Peer(NamedTuple):
    """The other end of a veth: name of its namespace if it is ours, own name, MAC."""

    namespace: str | None
    name: str
    mac: str


class LinkFact(NamedTuple):
    """A link that bears our mark, as it is. ``filtered``: our program is at its
    ingress. ``peer`` is None for a TAP, and where it was not asked for. ``to_vm``
    is its limit of bandwidth, ``queue`` how many frames may wait. ``silent``: the
    host's own IPv6 is off there. ``free``: it is no port of a bridge, bond or VRF of
    the host's."""

    ifindex: int
    name: str
    alias: str
    mtu: int
    up: bool
    is_veth: bool
    multiqueue: bool
    filtered: bool
    peer: Peer | None = None
    to_vm: Allowance | None = None
    silent: bool = True
    queue: int = QUEUE
    free: bool = True


class Aspect(Enum):
    """What of a link can be put right without making it anew."""

    NAME = "name"
    ALIAS = "alias"
    MTU = "mtu"
    QUEUE = "queue"
    FILTER = "filter"
    TO_VM = "bandwidth"  # what limits it of what the VM is sent
    SILENCE = "IPv6 off"
    FREEDOM = "no bridge"
    UP = "up"


class LinkFix(NamedTuple):
    """Make these aspects of the link at an ifindex be as wanted."""

    ifindex: int
    link: Link
    aspects: frozenset[Aspect]


@dataclass(slots=True)
class Made:
    """Links that were made (name -> ifindex), and why others were not."""

    indexes: dict[str, int]
    failures: dict[str, str]


class TunnelFact(NamedTuple):
    """The tunnel's device, and what is wrong of it, in words of one or two.
    ``envelopes``: who makes those that it sends, and why not the data plane."""

    ifindex: int
    faults: tuple[str, ...] = ()
    envelopes: str = ""


class Abi(Protocol):
    """The contract with the data plane, as far as rows need it."""

    def value(self, name: str) -> int: ...

    def bits(self, enum: str, names: Iterable[str]) -> int: ...

    def table_types(self, name: str) -> tuple[Codec, Codec]: ...


class Kernel(Protocol):
    """Everything the applier does to a host goes through here. Reading raises
    KernelError when it can't be done at all."""

    @property
    def abi(self) -> Abi: ...

    # ---- namespaces ------------------------------------------------------

    def namespaces(self) -> dict[str, bool]:
        """Names that bear our mark; False when the namespace is not whole."""
        ...

    def existing_namespaces(self) -> set[str]:
        """Names of all that there are, whosever."""
        ...

    def add_namespace(self, name: str) -> bool:
        """False when it is there already. KernelError when it can't be made,
        or is somebody else's."""
        ...

    def remove_namespace(self, name: str) -> None: ...

    # ---- links -----------------------------------------------------------

    def links(self) -> dict[str, LinkFact]:
        """All links that bear our mark, by name, peers included."""
        ...

    def inspect(self, indexes: Sequence[int]) -> dict[int, LinkFact]:
        """Those of the links that exist, by ifindex, without peers."""
        ...

    def altered(self) -> set[int] | None:
        """ifindexes of which the kernel reported a change since the last call,
        our own changes included; None when there were too many to tell."""
        ...

    def foresee_link(self, link: Link) -> None:
        """``make_links`` is going to be asked for this TAP, and may begin with it."""
        ...

    def make_links(self, links: Sequence[Link]) -> Made:
        """Make links with mark, MTU and filter, not yet up. A link of the name
        that is not ours is a failure."""
        ...

    def fix_links(self, fixes: Sequence[LinkFix]) -> dict[str, str]:
        """Put aspects right; returns failures by name. A link whose filter can't
        be put right is set down."""
        ...

    def remove_links(self, indexes: Mapping[str, int]) -> dict[str, str]:
        """Remove links (name -> ifindex); one that is gone already is no failure."""
        ...

    # ---- the shaper ------------------------------------------------------

    def read_shaper(self, host: Allowance) -> ShaperFact | None:
        """The pair, which is to have a class for the whole host; None: it is
        not there. KernelError when a link of the name is not ours."""
        ...

    def make_shaper(self, host: Allowance) -> ShaperFact:
        """Make or mend the pair. KernelError when that can't be done."""
        ...

    def remove_shaper(self, index: int, minors: Sequence[int]) -> None:
        """Remove the pair, when what waits in its classes has left. KernelError."""
        ...

    def put_allowances(
        self, index: int, wanted: Mapping[int, Allowance], damaged: Set[int]
    ) -> dict[int, str]:
        """Make classes, or change them with what waits in them; some are damaged
        and must be made anew. Returns failures by minor number."""
        ...

    def drop_allowances(self, index: int, minors: Sequence[int]) -> dict[int, str]:
        """Remove classes when what waits in them has left; returns failures."""
        ...

    # ---- the tunnel ------------------------------------------------------

    def read_tunnel(self, wanted: Tunnel | None) -> TunnelFact | None:
        """The device with all that belongs to it, against what is wanted; None:
        it is not there."""
        ...

    def mend_tunnel(self, wanted: Tunnel) -> TunnelFact:
        """Make or mend it. KernelError when that can't be done, such as when
        somebody else has the UDP port."""
        ...

    def remove_tunnel(self) -> None:
        """Remove it. KernelError."""
        ...

    # ---- tables ----------------------------------------------------------

    def digest(self, table: str) -> int:
        """A number that differs when the content does."""
        ...

    def read_table(self, table: str) -> dict[bytes, bytes]: ...

    def write_rows(self, table: str, rows: Mapping[bytes, bytes]) -> dict[bytes, str]:
        """Add or overwrite, in the given order; returns failures by key."""
        ...

    def delete_rows(self, table: str, keys: Sequence[bytes]) -> dict[bytes, str]:
        """Remove; a key that is gone already is no failure."""
        ...

    def clear_counters(self, slots: Sequence[int]) -> None:
        """Set the counters of slots to zero. KernelError when it can't be done."""
        ...

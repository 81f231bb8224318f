"""A kernel in memory that behaves as the real one does, for tests without root.

Every write goes through ``_step``, where a test can make it fail
(``refuse``) or make the process die (``die_at``). What a caller finds
afterwards is what a real kernel would hold.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from heddle.applier.diff import limit
from heddle.applier.kernel import (
    Abi,
    Aspect,
    LinkFact,
    LinkFix,
    Made,
    Peer,
    TunnelFact,
)
from heddle.applier.shaping import Allowance, ShaperFact
from heddle.compiler.state import QUEUE, TABLE_ORDER, Link, Tunnel
from heddle.datapath.codec import Codec, Row
from heddle.errors import KernelError

_TABLES = (*TABLE_ORDER, "epochs")


class Died(BaseException):
    """The process was killed at this step."""


class PlainCodec:
    """Rows as readable bytes, for when no compiled object is at hand."""

    size = 0

    def pack(self, row: Row, /) -> bytes:
        fields = row._asdict() if hasattr(row, "_asdict") else row
        return repr(fields).encode()

    def unpack(self, data: bytes, /) -> Row:
        return ast.literal_eval(data.decode())


class PlainAbi:
    """Stands in for the ABI of the compiled object."""

    _values = {"COUNTER_SLOTS": 16384, "EPOCH_SLOTS": 64}  # noqa: RUF012  # never changed

    def __init__(self) -> None:
        self._codec = PlainCodec()

    def value(self, name: str) -> int:
        return self._values[name]

    def bits(self, enum: str, names: Iterable[str]) -> int:
        """Not C's numbers, but as different from each other."""
        return sum(hash_of(f"{enum}.{name}") for name in names)

    def table_types(self, name: str) -> tuple[Codec, Codec]:
        return self._codec, self._codec


def hash_of(text: str) -> int:
    """A number of a name, the same in every process."""
    return int.from_bytes(text.encode(), "big") % 0xFFFFFFFB


@dataclass
class FakeLink:
    """A link of the fake kernel; ``mark`` is the group that ours get at birth."""

    index: int
    name: str
    alias: str = ""
    mtu: int = 1500
    up: bool = False
    is_veth: bool = False
    multiqueue: bool = False
    filtered: bool = False
    mark: bool = False
    peer: Peer | None = None
    to_vm: Allowance | None = None
    silent: bool = True
    queue: int = QUEUE
    free: bool = True


@dataclass
class FakeShaper:
    """The pair of the fake kernel: ifindexes, the class of the host, those of ports."""

    ends: tuple[int, int]
    host: Allowance
    whole: bool = False
    allowances: dict[int, Allowance] = field(default_factory=dict)


@dataclass
class FakeTunnel:
    """The tunnel of the fake kernel: ifindex, what it was made for, what is wrong."""

    index: int
    tunnel: Tunnel
    faults: tuple[str, ...] = ()


@dataclass
class FakeKernel:
    """Implements ``Kernel``. Tests look at, and damage, its public fields:
    ``all_links`` by ifindex, ``tables`` by name, ``spaces`` by name (True: ours),
    ``shaper`` and ``tunnel``, which are no links among the others."""

    abi: Abi = field(default_factory=PlainAbi)
    all_links: dict[int, FakeLink] = field(default_factory=dict)
    tables: dict[str, dict[bytes, bytes]] = field(
        default_factory=lambda: {table: {} for table in _TABLES}
    )
    spaces: dict[str, bool] = field(default_factory=dict)
    shaper: FakeShaper | None = None
    tunnel: FakeTunnel | None = None
    counters: dict[int, int] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)  # every write so far
    reads: list[str] = field(default_factory=list)
    die_at: int | None = None  # the number of the step at which to die
    refuse: Callable[[str], bool] = lambda step: False
    overrun: bool = False  # too much changes to be told, until the next look
    _altered: set[int] = field(default_factory=set)
    _last_index: int = 1

    def _step(self, what: str) -> None:
        """One write is about to happen."""
        if self.die_at is not None and len(self.steps) >= self.die_at:
            raise Died(what)
        if self.refuse(what):
            raise KernelError(f"{what}: refused")
        self.steps.append(what)

    # ---- namespaces ------------------------------------------------------

    def namespaces(self) -> dict[str, bool]:
        self.reads.append("namespaces")
        return {name: True for name, is_ours in self.spaces.items() if is_ours}

    def existing_namespaces(self) -> set[str]:
        return set(self.spaces)

    def add_namespace(self, name: str) -> bool:
        if name in self.spaces:
            if not self.spaces[name]:
                raise KernelError(f"namespace {name} exists and is not heddle's")
            return False
        self._step(f"namespace + {name}")
        self.spaces[name] = True
        return True

    def remove_namespace(self, name: str) -> None:
        self._step(f"namespace - {name}")
        self.spaces.pop(name, None)
        self._drop([link for link in self.all_links.values() if _lives_in(link, name)])

    # ---- links -----------------------------------------------------------

    def links(self) -> dict[str, LinkFact]:
        self.reads.append("links")
        ours = (link for link in self.all_links.values() if _is_ours(link))
        return {link.name: _fact(link) for link in ours}

    def inspect(self, indexes: Sequence[int]) -> dict[int, LinkFact]:
        return {
            index: _fact(self.all_links[index])._replace(peer=None)
            for index in indexes
            if index in self.all_links
        }

    def altered(self) -> set[int] | None:
        altered, self._altered = self._altered, set()
        overrun, self.overrun = self.overrun, False
        return None if overrun else altered

    def alter(self, name: str, /, **changes: Any) -> None:  # noqa: ANN401  # fields of FakeLink
        """What somebody else does to a link."""
        link = self.link(name)
        for what, value in changes.items():
            setattr(link, what, value)
        self._altered.add(link.index)

    def destroy(self, name: str) -> None:
        """Somebody else deletes a link."""
        self._drop([self.link(name)])

    def link(self, name: str) -> FakeLink:
        return next(link for link in self.all_links.values() if link.name == name)

    def add_foreign(self, name: str) -> FakeLink:
        """A link that is not ours."""
        return self._new(name)

    def foresee_link(self, link: Link) -> None:
        """Nothing is gained by beginning early in memory."""

    def make_links(self, links: Sequence[Link]) -> Made:
        made = Made({}, {})
        for link in links:
            try:
                made.indexes[link.name] = self._make(link)
            except KernelError as error:
                made.failures[link.name] = str(error)
        return made

    def _make(self, wanted: Link) -> int:
        if any(link.name == wanted.name for link in self.all_links.values()):
            raise KernelError(f"link {wanted.name} exists and is not heddle's")
        if wanted.namespace is not None and wanted.namespace not in self.spaces:
            raise KernelError(f"link {wanted.name}: no namespace {wanted.namespace}")
        if wanted.is_veth and self._is_taken(wanted.namespace, wanted.peer):
            raise KernelError(f"link {wanted.name}: {wanted.peer} exists in its namespace")
        if not wanted.is_veth:  # appears when it is complete, see tap.py
            self._step(f"link + {wanted.name}")
            link = self._new(wanted.name)
        else:
            self._step(f"link + {wanted.name}")
            link = self._new(wanted.name)
            link.mark = link.is_veth = True
            link.peer = Peer(wanted.namespace, wanted.peer or "", wanted.peer_mac or "")
            try:
                self._step(f"link furnish {wanted.name}")
            except KernelError:
                del self.all_links[link.index]
                raise
        link.alias, link.mtu, link.filtered = wanted.alias, wanted.mtu, True
        link.multiqueue = wanted.multiqueue
        return link.index

    def _is_taken(self, namespace: str | None, peer: str | None) -> bool:
        ends = [link.peer for link in self.all_links.values() if link.peer is not None]
        return any((end.namespace, end.name) == (namespace, peer) for end in ends)

    def _new(self, name: str) -> FakeLink:
        self._last_index += 1
        link = self.all_links[self._last_index] = FakeLink(self._last_index, name)
        self._altered.add(link.index)
        return link

    def fix_links(self, fixes: Sequence[LinkFix]) -> dict[str, str]:
        failures = {}
        for index, wanted, aspects in fixes:
            try:
                for aspect in sorted(aspects, key=lambda aspect: aspect.value):
                    self._fix(index, wanted, aspect)
            except KernelError as error:
                failures[wanted.name] = str(error)
                if Aspect.FILTER in aspects and index in self.all_links:
                    self.all_links[index].up = False
        return failures

    def _fix(self, index: int, wanted: Link, aspect: Aspect) -> None:
        if index not in self.all_links:
            raise KernelError(f"link {wanted.name}: no such device")
        self._step(f"link {aspect.value} {wanted.name}")
        link = self.all_links[index]
        self._altered.add(index)
        if aspect is Aspect.NAME:
            link.name = wanted.name
        elif aspect is Aspect.ALIAS:
            link.alias = wanted.alias
        elif aspect is Aspect.MTU:
            link.mtu = wanted.mtu
        elif aspect is Aspect.FILTER:
            link.filtered = True
        elif aspect is Aspect.TO_VM:
            link.to_vm = limit(wanted)
        elif aspect is Aspect.SILENCE:
            link.silent = True
        elif aspect is Aspect.QUEUE:
            link.queue = wanted.queue
        elif aspect is Aspect.FREEDOM:
            link.free = True
        else:
            link.up = True

    def remove_links(self, indexes: Mapping[str, int]) -> dict[str, str]:
        failures = {}
        for name, index in indexes.items():
            try:
                self._step(f"link - {name}")
                self._drop([link for link in self.all_links.values() if link.index == index])
            except KernelError as error:
                failures[name] = str(error)
        return failures

    def _drop(self, links: Iterable[FakeLink]) -> None:
        for link in links:
            del self.all_links[link.index]
            self._altered.add(link.index)

    # ---- the shaper ------------------------------------------------------

    def read_shaper(self, host: Allowance) -> ShaperFact | None:
        found = self.shaper
        if found is None:
            return None
        whole = found.whole and found.host == host
        return ShaperFact(found.ends, whole, dict(found.allowances))

    def make_shaper(self, host: Allowance) -> ShaperFact:
        if self.shaper is None:
            self._step("shaper +")
            self._last_index += 2
            self.shaper = FakeShaper((self._last_index - 1, self._last_index), host)
        self._step("shaper ~")
        self.shaper.host, self.shaper.whole = host, True
        self._altered.update(self.shaper.ends)
        return ShaperFact(self.shaper.ends, True, dict(self.shaper.allowances))

    def remove_shaper(self, index: int, minors: Sequence[int]) -> None:
        self._step("shaper -")
        self.damage_shaper(None)

    def damage_shaper(self, left: FakeShaper | None) -> None:
        """What somebody else makes of the pair."""
        if self.shaper is not None:
            self._altered.update(self.shaper.ends)
        self.shaper = left

    def put_allowances(
        self, index: int, wanted: Mapping[int, Allowance], damaged: Set[int]
    ) -> dict[int, str]:
        def put(minor: int) -> None:
            self._shaper_at(index).allowances[minor] = wanted[minor]

        return self._each_allowance("+", wanted, put)

    def drop_allowances(self, index: int, minors: Sequence[int]) -> dict[int, str]:
        def drop(minor: int) -> None:
            self._shaper_at(index).allowances.pop(minor, None)

        return self._each_allowance("-", minors, drop)

    def _each_allowance(
        self, verb: str, minors: Iterable[int], change: Callable[[int], None]
    ) -> dict[int, str]:
        failures = {}
        for minor in minors:
            try:
                self._step(f"allowance {verb} {minor}")
                change(minor)
            except KernelError as error:
                failures[minor] = str(error)
        return failures

    def _shaper_at(self, index: int) -> FakeShaper:
        if self.shaper is None or self.shaper.ends[0] != index:
            raise KernelError("no such device")
        self._altered.update(self.shaper.ends)
        return self.shaper

    # ---- the tunnel ------------------------------------------------------

    def read_tunnel(self, wanted: Tunnel | None) -> TunnelFact | None:
        found = self.tunnel
        if found is None:
            return None
        faults = found.faults if found.tunnel == wanted else (*found.faults, "settings")
        return TunnelFact(found.index, faults)

    def mend_tunnel(self, wanted: Tunnel) -> TunnelFact:
        if self.tunnel is None or self.tunnel.tunnel.udp_port != wanted.udp_port:
            self._step("tunnel +")
            self._last_index += 1
            self.tunnel = FakeTunnel(self._last_index, wanted, ("down",))
        self._step("tunnel ~")
        self.tunnel.tunnel, self.tunnel.faults = wanted, ()
        return TunnelFact(self.tunnel.index)

    def remove_tunnel(self) -> None:
        self._step("tunnel -")
        self.tunnel = None

    # ---- tables ----------------------------------------------------------

    def digest(self, table: str) -> int:
        return hash(frozenset(self.tables[table].items()))

    def read_table(self, table: str) -> dict[bytes, bytes]:
        self.reads.append(table)
        return dict(self.tables[table])

    def write_rows(self, table: str, rows: Mapping[bytes, bytes]) -> dict[bytes, str]:
        failures = {}
        for key, value in rows.items():
            try:
                self._step(f"{table} + {key.decode(errors='replace')}")
                self.tables[table][key] = value
            except KernelError as error:
                failures[key] = str(error)
        return failures

    def delete_rows(self, table: str, keys: Sequence[bytes]) -> dict[bytes, str]:
        failures = {}
        for key in keys:
            try:
                self._step(f"{table} - {key.decode(errors='replace')}")
                self.tables[table].pop(key, None)
            except KernelError as error:
                failures[key] = str(error)
        return failures

    def clear_counters(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._step(f"counters 0 {slot}")
            self.counters[slot] = 0


def _is_ours(link: FakeLink) -> bool:
    return link.mark or link.alias.startswith("heddle:port:")


def _lives_in(link: FakeLink, namespace: str) -> bool:
    return link.peer is not None and link.peer.namespace == namespace


def _fact(link: FakeLink) -> LinkFact:
    return LinkFact(
        ifindex=link.index,
        name=link.name,
        alias=link.alias,
        mtu=link.mtu,
        up=link.up,
        is_veth=link.is_veth,
        multiqueue=link.multiqueue,
        filtered=link.filtered,
        peer=link.peer,
        to_vm=link.to_vm,
        silent=link.silent,
        queue=link.queue,
        free=link.free,
    )

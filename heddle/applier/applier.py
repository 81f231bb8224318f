"""Makes the kernel match the compiled state, in a declared order.

    namespaces -> links (made down, marked, filtered), the tunnel, the shaper ->
    epochs odd -> limits of senders -> rows -> links up -> epochs even -> links
    removed -> limits, tunnel and namespaces removed

Every step may be the last before a crash. What the kernel holds is the only
record of what has been done: the next ``synchronize`` reads all of it back,
and writes no more than what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from heddle.applier.epochs import Epochs
from heddle.applier.kernel import Kernel
from heddle.applier.placement import Facts, Links
from heddle.applier.report import Action, Report
from heddle.applier.rows import Rows
from heddle.applier.shaper import Shaper
from heddle.applier.tunnel import TunnelEnd
from heddle.compiler.state import TABLE_ORDER, HostDelta, HostState, Link, RowKey
from heddle.errors import KernelError
from heddle.intent.names import TUNNEL

__all__ = ["Action", "Applier", "Report"]


@dataclass(slots=True)
class _Work:
    """What to look at. Links come with what they are like, rows and tables are
    compared with what was last written or read."""

    namespaces: set[str] = field(default_factory=set)
    links: Facts = field(default_factory=dict)
    strays: dict[str, int] = field(default_factory=dict)  # links to be removed
    rows: set[RowKey] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)
    touched: set[int] | None = None  # slots of epochs; None: all, if a row differs


class Applier:
    """One host's applier. Call ``synchronize`` first. Not for use by two threads
    at once. ``capacity``: what the ports of the host may send together, in bits
    per second; 0: nobody said."""

    def __init__(self, kernel: Kernel, capacity: int = 0) -> None:
        self._kernel = kernel
        self._capacity = capacity
        self._reset()

    def _reset(self) -> None:
        self._namespaces: set[str] = set()
        self._namespace_failures: dict[str, str] = {}
        self._links = Links(self._kernel)
        self._rows = Rows(self._kernel, self._links.indexes)
        self._epochs = Epochs(self._kernel)
        self._shaper = Shaper(self._kernel, self._links.indexes, self._rows.slot_of, self._capacity)
        self._tunnel = TunnelEnd(self._kernel, self._links.indexes)
        self._has_begun = False

    @property
    def pending(self) -> dict[str, str]:
        """Why what is wanted is not in place yet, by device where a device is
        concerned, else by what it is. All of it is tried again by ``audit``."""
        errors = {f"namespace {name}": text for name, text in self._namespace_failures.items()}
        errors |= self._rows.pending() | self._shaper.failures | self._links.failures
        errors |= self._tunnel.failures
        if self._epochs.error:
            errors["epochs"] = self._epochs.error
        return errors

    @property
    def envelopes(self) -> str:
        """Who makes those that go to other hosts; "": none go there."""
        return self._tunnel.envelopes

    # ---- the three ways to be called -------------------------------------

    def begin(self) -> None:
        """Forget all, and look at the links, before it is known what is wanted: what
        is foreseen is begun with until ``synchronize`` follows. KernelError when
        they can't be read."""
        self._reset()
        self._links.look()
        self._has_begun = True

    def foresee(self, link: Link) -> None:
        """The next ``synchronize`` or ``apply`` will want this link. Of many that
        are not there TAPs are made at once, which goes on meanwhile."""
        self._links.foresee(link)

    def synchronize(self, state: HostState) -> Report:
        """Read everything, and make it match a whole state. What bears our mark
        and is not wanted is removed. KernelError when the kernel can't be read."""
        if not self._has_begun:
            self.begin()
        self._has_begun = False
        self._namespaces = set(state.namespaces)
        self._links.wanted.update(state.links)
        self._shaper.want(state.links)
        self._tunnel.want(state.tunnel)
        self._rows.wanted.update(state.rows)
        facts, strays = self._links.read()
        self._links.adopt(facts)
        self._shaper.read()
        self._rows.read()
        self._epochs.read()
        whole = self._kernel.namespaces()
        unsettled = {name for name in self._namespaces if not whole.get(name)}
        return self._carry_out(
            _Work(
                namespaces=unsettled | (whole.keys() - self._namespaces),
                links=facts,
                strays=strays,
                tables=set(TABLE_ORDER),
            )
        )

    def apply(self, delta: HostDelta) -> Report:
        """Carry out a difference. The kernel is written, but not read."""
        for name, is_wanted in delta.namespaces.items():
            (self._namespaces.add if is_wanted else self._namespaces.discard)(name)
        facts = self._links.want(delta.links)
        self._shaper.want(delta.links)
        if delta.tunnel_changed:
            self._tunnel.want(delta.tunnel)
        self._rows.want(delta.rows)
        return self._carry_out(
            _Work(
                namespaces=set(delta.namespaces),
                links=facts,
                rows=set(delta.rows),
                touched=self._epochs.slots_of(delta.touched),
            )
        )

    def audit(self) -> Report:
        """All parts of an audit."""
        report = Report()
        for part in self.audit_parts():
            report.continue_with(part())
        return report

    def audit_parts(self) -> tuple[Callable[[], Report], ...]:
        """Find and repair what was altered behind our back, and try again what
        failed. In parts, between which a change of intent may go first: it need
        not wait for all that is read."""
        return self._audit_links, self._audit_tables

    def _audit_links(self) -> Report:
        """As far as the kernel told of changes, and some others each time; and what
        there is one of."""
        work = _Work(namespaces=self._missing_namespaces() | set(self._namespace_failures))
        facts = self._links.altered()
        self._shaper.audit(self._links.suspects)
        self._tunnel.audit()
        if facts is None:
            facts, work.strays = self._links.read()
        work.links = self._links.failed() | self._links.severed(work.namespaces) | facts
        return self._carry_out(work)

    def _audit_tables(self) -> Report:
        """In full."""
        rows, tables = self._rows.failed()
        return self._carry_out(_Work(rows=rows, tables=tables | self._rows.altered()))

    # ---- the order of writes ---------------------------------------------

    def _carry_out(self, work: _Work) -> Report:
        report = Report()
        self._add_namespaces(work.namespaces, report)
        placement = self._links.place(work.links, report)
        tunnel_is_new, tunnel_moved = self._tunnel.place(report)
        if self._shaper.place(report) or tunnel_moved or placement.moved:
            work.tables |= self._rows.device_tables()
        waiting = self._rows.affected([*placement.found, *([TUNNEL] if tunnel_is_new else [])])
        plans = self._rows.plan(work.rows | waiting, work.tables)
        slots = self._stale(work, bool(plans), bool(work.tables or waiting))
        self._shaper.write(report)
        if plans:
            self._epochs.begin(slots)
            self._rows.write(plans, report)
        self._epochs.finish(slots)
        self._links.open(placement, report)
        self._rows.release_slots(work.rows)
        placement.plan.removed |= work.strays
        self._links.remove(placement.plan, report)
        self._shaper.clear(report)
        self._tunnel.clear(report)
        self._remove_namespaces(work.namespaces, report)
        report.failures |= self.pending
        return report

    def _stale(self, work: _Work, rows_differ: bool, repaired: bool) -> set[int]:
        """Epochs to advance: those named, those that a dead writer left odd, and
        all when rows were repaired, since nobody knows whom that touches."""
        if rows_differ and (work.touched is None or repaired):
            return self._epochs.all_slots()
        return (work.touched or set()) | self._epochs.unfinished()

    def _missing_namespaces(self) -> set[str]:
        return self._namespaces - self._kernel.existing_namespaces() if self._namespaces else set()

    def _add_namespaces(self, names: Iterable[str], report: Report) -> None:
        for name in sorted(self._namespaces.intersection(names)):
            self._namespace_failures.pop(name, None)
            try:
                if self._kernel.add_namespace(name):
                    report.add("+", f"namespace {name}")
            except KernelError as error:
                self._namespace_failures[name] = str(error)

    def _remove_namespaces(self, names: Iterable[str], report: Report) -> None:
        for name in sorted(set(names) - self._namespaces):
            self._namespace_failures.pop(name, None)
            try:
                self._kernel.remove_namespace(name)
                report.add("-", f"namespace {name}")
            except KernelError as error:
                self._namespace_failures[name] = str(error)

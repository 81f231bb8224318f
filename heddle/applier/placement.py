"""The links: wanted, in place, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from heddle.applier.diff import (
    LinkPlan,
    by_wanted_name,
    diff_links,
    is_right,
    presumed,
    without_peer,
)
from heddle.applier.kernel import Aspect, Kernel, LinkFact, LinkFix
from heddle.applier.report import Report
from heddle.compiler.state import QUEUE, Link

# Links that an audit looks at without being told to: the kernel's
# notifications should have named every altered one.
_CHECKED_PER_AUDIT = 128

Facts = dict[str, LinkFact | None]  # by wanted name; None: not there


@dataclass(slots=True)
class Placement:
    """What placing links has led to, and what of it is still to be done."""

    plan: LinkPlan
    new: list[str] = field(default_factory=list)  # links that were made
    found: list[str] = field(default_factory=list)  # those, and others not known until now
    moved: bool = False  # a link that was there is gone, or has another ifindex


class Links:
    """``indexes`` holds the ifindex of every wanted link that is in place."""

    def __init__(self, kernel: Kernel) -> None:
        self.wanted: dict[str, Link] = {}
        self.indexes: dict[str, int] = {}
        self.failures: dict[str, str] = {}
        self.suspects: set[int] | None = set()  # of the last look for altered links
        self._kernel = kernel
        self._there: list[LinkFact] | None = None  # looked at, and not yet read
        self._aliases: frozenset[str] = frozenset()  # of those
        self._checked = 0

    # ---- what is there ---------------------------------------------------

    def look(self) -> None:
        """See what is there, before what is wanted is known; for the next ``read``."""
        self._there = list(self._kernel.links().values())
        self._aliases = frozenset(fact.alias for fact in self._there)

    def foresee(self, link: Link) -> None:
        """Of a TAP that is going to be wanted and is not there the kernel may know."""
        is_there = link.name in self.indexes or link.alias in self._aliases
        if not is_there and not link.is_veth:
            self._kernel.foresee_link(link)

    def read(self) -> tuple[Facts, dict[str, int]]:
        """All links of ours that are wanted or there; second, links to be
        removed that have no wanted name to go by."""
        there, self._there, self._aliases = self._there, None, frozenset()
        if there is None:
            there = list(self._kernel.links().values())
        actual, doubles = by_wanted_name(self.wanted.values(), there)
        facts: Facts = dict.fromkeys(self.wanted)
        facts.update(actual)
        return facts, {fact.name: fact.ifindex for fact in doubles}

    def want(self, changes: Mapping[str, Link | None]) -> Facts:
        """Take over what is wanted; return what the links concerned are like.
        The kernel is asked only about those that failed before."""
        facts: Facts = {}
        for name, link in changes.items():
            facts[name] = self._known(name)
            if link is None:
                self.wanted.pop(name, None)
            else:
                self.wanted[name] = link
        return facts

    def adopt(self, facts: Facts) -> None:
        """Know these links as being in place."""
        for name, fact in facts.items():
            if fact is not None and name in self.wanted:
                self.indexes[name] = fact.ifindex

    def altered(self) -> Facts | None:
        """Links that are not as wanted, as far as the kernel's notifications
        and a look at some others tell; None when all must be read."""
        suspects = self.suspects = self._kernel.altered()
        if suspects is None:
            return None
        names = {self.indexes[name]: name for name in self._next_to_check()}
        if suspects:
            names |= {i: name for name, i in self.indexes.items() if i in suspects}
        actual = self._kernel.inspect(list(names))
        facts = {name: actual.get(index) for index, name in names.items()}
        return {name: fact for name, fact in facts.items() if self._is_wrong(name, fact)}

    def failed(self) -> Facts:
        """Links that must be tried again."""
        return {name: self._known(name) for name in self.failures}

    def severed(self, namespaces: set[str]) -> Facts:
        """Links whose other end went with a namespace that was made anew."""
        facts: Facts = {}
        for name, link in self.wanted.items():
            if link.namespace in namespaces and name in self.indexes:
                facts[name] = without_peer(presumed(link, self.indexes[name]))
        return facts

    def _known(self, name: str) -> LinkFact | None:
        index = self.indexes.get(name)
        if index is None:
            return None
        if name in self.failures:
            return self._kernel.inspect([index]).get(index)
        return presumed(self.wanted[name], index)

    def _is_wrong(self, name: str, fact: LinkFact | None) -> bool:
        link = self.wanted.get(name)  # None: it could not be removed
        return link is not None and (fact is None or not is_right(link, fact))

    def _next_to_check(self) -> list[str]:
        if self._checked >= len(self.indexes):
            self._checked = 0
        start, self._checked = self._checked, self._checked + _CHECKED_PER_AUDIT
        return list(islice(self.indexes, start, self._checked))

    # ---- making it so ----------------------------------------------------

    def place(self, facts: Facts, report: Report) -> Placement:
        """Make, replace and mend; ``open`` and ``remove`` follow after the rows."""
        plan = diff_links({name: self.wanted.get(name) for name in facts}, facts)
        placement = Placement(plan)
        before = {name: self.indexes[name] for name in facts if name in self.indexes}
        for name in facts:
            self.failures.pop(name, None)
            if name not in plan.removed:
                self.indexes.pop(name, None)
        self.adopt({name: fact for name, fact in facts.items() if name not in plan.replaced})
        self._replace(plan, report)
        self._make(plan, placement, report)
        self._fix(plan, report)
        placement.found = [n for n in facts if n in self.indexes and n not in before]
        placement.moved = any(self.indexes.get(name) != index for name, index in before.items())
        return placement

    def open(self, placement: Placement, report: Report) -> None:
        """Set up what is in place with filter and rows."""
        fixes = [fix for fix in placement.plan.raised if fix.link.name not in self.failures]
        news = set(placement.new)
        failures = self._kernel.fix_links(fixes) if fixes else {}
        self.failures |= failures
        done = [fix for fix in fixes if fix.link.name not in failures and fix.link.name not in news]
        report.add_all("~", "link", done, _in_words)

    def remove(self, plan: LinkPlan, report: Report) -> None:
        failures = self._kernel.remove_links(plan.removed) if plan.removed else {}
        self.failures |= failures
        gone = [name for name in plan.removed if name not in failures]
        for name in gone:
            self.indexes.pop(name, None)
        report.add_all("-", "link", gone)

    def _replace(self, plan: LinkPlan, report: Report) -> None:
        failures = self._kernel.remove_links(plan.replaced) if plan.replaced else {}
        self.failures |= failures
        gone = [n for n in plan.replaced if n not in self.wanted and n not in failures]
        report.add_all("-", "link", gone)
        plan.made = [link for link in plan.made if link.name not in failures]

    def _make(self, plan: LinkPlan, placement: Placement, report: Report) -> None:
        if not plan.made:
            return
        made = self._kernel.make_links(plan.made)
        self.indexes.update(made.indexes)
        self.failures |= made.failures
        placement.new = list(made.indexes)
        for link in plan.made:
            if link.name in made.indexes:
                plan.raised.append(_up(link, made.indexes[link.name]))
        report.add_all("+", "link", [name for name in placement.new if name not in plan.replaced])
        report.add_all("~", "link", [name for name in placement.new if name in plan.replaced])

    def _fix(self, plan: LinkPlan, report: Report) -> None:
        failures = self._kernel.fix_links(plan.fixed) if plan.fixed else {}
        self.failures |= failures
        done = [fix for fix in plan.fixed if fix.link.name not in failures]
        report.add_all("~", "link", done, _in_words)


def _up(link: Link, index: int) -> LinkFix:
    wanted = {Aspect.UP}
    if link.shaping.to_vm:
        wanted.add(Aspect.TO_VM)
    if link.queue != QUEUE:
        wanted.add(Aspect.QUEUE)
    return LinkFix(index, link, frozenset(wanted))


def _in_words(fix: LinkFix) -> str:
    return f"{fix.link.name}: " + ", ".join(sorted(aspect.value for aspect in fix.aspects))

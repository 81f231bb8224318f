"""What differs between wanted and actual. Pure: nothing is read or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from heddle.applier.kernel import Aspect, LinkFact, LinkFix, Peer
from heddle.applier.shaping import Allowance, allowance_to_vm
from heddle.compiler.state import Link, RowKey


@dataclass(slots=True)
class LinkPlan:
    """What is to be done about links. ``replaced`` go before any is made: those to be
    made anew, which are in ``made`` as well, and those whose place in a namespace
    another one takes. ``raised`` are those that are in place but down, or lose a
    limit: after the rows. ``removed`` go last."""

    made: list[Link] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)
    fixed: list[LinkFix] = field(default_factory=list)
    raised: list[LinkFix] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class RowPlan:
    """What is to be done about the rows of one table."""

    new: dict[bytes, bytes] = field(default_factory=dict)
    changed: dict[bytes, bytes] = field(default_factory=dict)
    removed: list[bytes] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.removed)

    def want(self, key: bytes, value: bytes, actual: bytes | None) -> None:
        """Add what makes one row right, if it is not."""
        if actual is None:
            self.new[key] = value
        elif actual != value:
            self.changed[key] = value


@dataclass(slots=True)
class TablePlan(RowPlan):
    """A plan that remembers which wanted row a key belongs to."""

    origin: dict[bytes, RowKey] = field(default_factory=dict)

    def take_out(self, is_taken: Callable[[bytes], bool]) -> TablePlan:
        """The part that is about such keys, which the plan has no more."""
        part = TablePlan(
            {key: self.new.pop(key) for key in filter(is_taken, list(self.new))},
            {key: self.changed.pop(key) for key in filter(is_taken, list(self.changed))},
            [key for key in self.removed if is_taken(key)],
            self.origin,
        )
        self.removed = [key for key in self.removed if not is_taken(key)]
        return part


def diff_links(
    wanted: Mapping[str, Link | None], actual: Mapping[str, LinkFact | None]
) -> LinkPlan:
    """Both by wanted name; what is in neither is left alone."""
    plan = LinkPlan()
    for name in dict.fromkeys([*wanted, *actual]):
        link, fact = wanted.get(name), actual.get(name)
        if link is None:
            if fact is not None:
                plan.removed[name] = fact.ifindex
        elif fact is None:
            plan.made.append(link)
        elif _must_be_replaced(link, fact):
            plan.replaced[name] = fact.ifindex
            plan.made.append(link)
        else:
            _diff_link(plan, link, fact)
    _make_room(plan, actual)
    return plan


def diff_table(wanted: Mapping[bytes, bytes], actual: Mapping[bytes, bytes]) -> RowPlan:
    """What makes a whole table right."""
    plan = RowPlan()
    for key, value in wanted.items():
        plan.want(key, value, actual.get(key))
    plan.removed = [key for key in actual if key not in wanted]
    return plan


def is_right(link: Link, fact: LinkFact) -> bool:
    """Whether nothing is to be done about a link."""
    return fact.up and not _must_be_replaced(link, fact) and not aspects(link, fact)


def aspects(link: Link, fact: LinkFact) -> frozenset[Aspect]:
    """What of a link is wrong, apart from being down."""
    wrong = {
        Aspect.NAME: fact.name != link.name,
        Aspect.ALIAS: fact.alias != link.alias,
        Aspect.MTU: fact.mtu != link.mtu,
        Aspect.QUEUE: fact.queue != link.queue,
        Aspect.FILTER: not fact.filtered,
        Aspect.TO_VM: fact.to_vm != limit(link),
        Aspect.SILENCE: not fact.silent,
        Aspect.FREEDOM: not fact.free,
    }
    return frozenset(aspect for aspect, is_wrong in wrong.items() if is_wrong)


def presumed(link: Link, index: int) -> LinkFact:
    """What a link looks like that was made as wanted."""
    peer = None
    if link.is_veth:
        peer = Peer(link.namespace, link.peer or "", link.peer_mac or "")
    return LinkFact(
        ifindex=index,
        name=link.name,
        alias=link.alias,
        mtu=link.mtu,
        up=True,
        is_veth=link.is_veth,
        multiqueue=link.multiqueue,
        filtered=True,
        peer=peer,
        to_vm=limit(link),
        queue=link.queue,
    )


def by_wanted_name(
    wanted: Iterable[Link], actual: Iterable[LinkFact]
) -> tuple[dict[str, LinkFact], list[LinkFact]]:
    """Links by the name that they should have: one that was renamed is known by
    its alias. Second, those that have no name of their own: doubles."""
    names = {link.alias: link.name for link in wanted}
    found: dict[str, LinkFact] = {}
    doubles: list[LinkFact] = []
    # A link that has its right name comes before one that must be renamed.
    for fact in sorted(actual, key=lambda fact: names.get(fact.alias, fact.name) != fact.name):
        name = names.get(fact.alias, fact.name)
        if name in found:
            doubles.append(fact)
        else:
            found[name] = fact
    return found, doubles


def _must_be_replaced(link: Link, fact: LinkFact) -> bool:
    if link.is_veth != fact.is_veth:
        return True
    if not link.is_veth:
        return link.multiqueue != fact.multiqueue
    return fact.peer is not None and fact.peer != Peer(
        link.namespace, link.peer or "", link.peer_mac or ""
    )


def _make_room(plan: LinkPlan, actual: Mapping[str, LinkFact | None]) -> None:
    """A new NIC of a container may have the name of one that goes."""
    places = {(link.namespace, link.peer) for link in plan.made if link.is_veth}
    for name in list(plan.removed):
        peer = fact.peer if (fact := actual[name]) else None
        if peer is not None and (peer.namespace, peer.name) in places:
            plan.replaced[name] = plan.removed.pop(name)


def _diff_link(plan: LinkPlan, link: Link, fact: LinkFact) -> None:
    wrong = set(aspects(link, fact))
    later = set() if fact.up or Aspect.NAME in wrong else {Aspect.UP}
    if link.shaping.to_vm is None and Aspect.TO_VM in wrong:
        wrong.remove(Aspect.TO_VM)
        later.add(Aspect.TO_VM)
    if wrong:
        plan.fixed.append(LinkFix(fact.ifindex, link, frozenset(wrong)))
    if later:
        plan.raised.append(LinkFix(fact.ifindex, link, frozenset(later)))


def limit(link: Link) -> Allowance | None:
    """What limits a link of what the VM is sent."""
    return allowance_to_vm(link.shaping.to_vm) if link.shaping.to_vm else None


def without_peer(fact: LinkFact) -> LinkFact:
    """A veth whose other end is lost: its namespace is no more."""
    return fact._replace(peer=Peer(None, "", ""))

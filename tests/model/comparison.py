"""The same frames through the model and through the data plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

from changes import Changes
from hypothesis import HealthCheck, settings
from model_board import STRANGER, ModelBoard, Observed, Tally
from packet_diff import assert_same_frame
from reference.ends import Blame, Outcome, Verdict
from reference.judge import first_questions
from reference.packet import Fragment, Packet
from reference.parse import parse
from reference.policy import matching_rules
from reference.world import World
from traffic import Sent, Traffic

from heddle.intent.model import AnyResource, Port

CHANGE_SHARE = 0.04
PATIENCE = 0.8  # seconds


def searched(topologies: int) -> settings:
    """How CI looks for differences: the same examples each time, however long one takes."""
    return settings(
        max_examples=topologies,
        deadline=None,
        database=None,
        derandomize=True,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class Comparison:
    """One topology, and all that is sent in it. Fails at the first difference."""

    def __init__(
        self,
        board: ModelBoard,
        objects: Iterable[AnyResource],
        behind: Iterable[Port] = (),
    ) -> None:
        """``behind``: machines behind a foreign VTEP."""
        self.objects = list(objects)
        self.board = board
        board.load(self.objects)
        self.world = World(self.objects, behind)
        self.outcomes = Counter[str]()
        self._is_timed = bool(self.world.topology.behind) or any(
            isinstance(o, Port) and o.connections_max for o in self.objects
        )
        self._started = board.now()
        self._tally = Tally(Counter(), Counter(), Counter())
        self._log: list[str] = []

    def send_all(self, seeds: Iterable[int]) -> None:
        """A packet for each seed, or a change of intent; nothing for 0, to which
        hypothesis shrinks."""
        traffic = Traffic(self.world.topology)
        changes = Changes(self.objects)
        for seed in filter(None, seeds):
            if self._is_too_late():
                return
            random = Random(seed)  # noqa: S311 - packets, no secrets
            if random.random() < CHANGE_SHARE:
                before, after = changes.next(random)
                if before is not None or after is not None:
                    self.change(before, after)
            else:
                self._send_any(traffic.next(random))

    def _send_any(self, sent: Sent) -> None:
        if sent.port in self.world.topology.behind:
            self.arrive(sent)
        else:
            self.send(sent)

    def arrive(self, sent: Sent) -> Outcome:
        """A machine behind the foreign VTEP sends."""
        topology = self.world.topology
        expected = self.world.arrive(sent.port, sent.frame, self.board.now())
        vni = topology.network_of(topology.behind[sent.port]).vni
        observed = self.board.arrive(vni, sent.frame)
        self._log.append(
            f"{sent.port}: {sent.frame[:74].hex()} -> {expected.reason or expected.verdict.value}"
        )
        self._count(sent, expected)
        try:
            drops = Counter((self._counted_at(blame), blame.reason) for blame in expected.drops)
            _same("drops", observed.drops, drops)
            frames = (*expected.deliveries, *expected.questions)
            _same("frames", _readable(observed.copies), _readable(frames))
        except AssertionError as error:
            error.add_note(f"model: {expected.verdict.value} {expected.drops}")
            error.add_note("\n".join(["packets before, last first:", *self._log[::-1][:20]]))
            raise
        return expected

    def _is_too_late(self) -> bool:
        """Near its limit a port loses unsettled connections after a second at the
        earliest: the model does not say which. After a second routers ask again. A
        machine too busy to come so far in time compares what it can."""
        return self._is_timed and self.board.now() - self._started > PATIENCE

    def change(self, before: AnyResource | None, after: AnyResource | None) -> None:
        """One object becomes another (None: is not there)."""
        self.objects = [o for o in self.objects if o is not before]
        self.objects += [after] if after is not None else []
        self.board.change(before, after)
        self.world.change(self.objects)
        self._log.append(f"{before} becomes {after}")

    def send(self, sent: Sent) -> Outcome:
        expected = self.world.send(sent.port, sent.frame, self.board.now(), sent.gso_size)
        observed = self.board.send(sent.port, sent.frame, sent.gso_size)
        self._log.append(
            f"{sent.port}: {sent.frame[:74].hex()} -> {expected.reason or expected.verdict.value}"
        )
        self._count(sent, expected)
        try:
            _compare(expected, observed, is_cut=sent.gso_size > 0)
            if expected.verdict is Verdict.DELIVERED:
                self._check_rules(sent, expected.deliveries[0][0], observed)
        except AssertionError as error:
            error.add_note(self._story(expected, observed))
            raise
        return expected

    def check_counters(self) -> None:
        """Every frame is accounted for, and none twice."""
        actual = self.board.tally()
        _same("frames sent", actual.sent, self._tally.sent)
        _same("frames received", actual.received, self._tally.received)
        _same("drops", actual.drops, self._tally.drops)

    def _check_rules(self, sent: Sent, receiver: str, observed: Observed) -> None:
        """The rules that are named for what they allowed do allow it."""
        topology = self.world.topology
        if receiver not in topology.ports:
            return
        here, there = topology.ports[sent.port], topology.ports[receiver]
        packet = Packet(here, topology.network_of(here), sent.frame, sent.gso_size)
        parse(packet)
        if "DECISION_POLICY_ALLOWED" not in observed.path or packet.fragment is Fragment.LATER:
            return
        for port, rule, asked in zip(
            (here, there), observed.rules, first_questions(packet, there, topology), strict=True
        ):
            allowing = {each.number for each in matching_rules(topology, port, asked)}
            named = rule in allowing if port.port_security else rule == self.board.rule_open
            assert named, f"{port.id} names rule {rule}, of {allowing}"

    def _counted_at(self, blame: Blame) -> str:
        """What the foreign host sent counts at the tunnel."""
        return STRANGER if blame.port in self.world.topology.behind else blame.port

    def _count(self, sent: Sent, expected: Outcome) -> None:
        ports = self.world.topology.ports
        self._tally.sent.update([sent.port] if sent.port in ports else [])
        self._tally.received.update(port for port, _ in expected.deliveries if port in ports)
        for blame in expected.drops:
            self._tally.drops[self._counted_at(blame), blame.reason] += 1
        self.outcomes[expected.reason or expected.verdict.value] += 1

    def _story(self, expected: Outcome, observed: Observed) -> str:
        lines = [
            f"model: {expected.verdict.value} {expected.drops}",
            f"data plane: {observed.path}",
        ]
        lines += [f"  {observed.reason=} {observed.blamed=} {observed.to=} {observed.state=}"]
        return "\n".join([*lines, "packets before, last first:", *self._log[::-1][:20]])


def _compare(expected: Outcome, observed: Observed, *, is_cut: bool) -> None:
    """``is_cut``: the devices here take no frame whole that its guest has not cut, so
    that the counters alone tell who got a copy."""
    _same("reason", observed.reason, expected.reason)
    if expected.verdict is Verdict.FLOODED:
        _same("target of a flooded frame", observed.to, None)
        if not is_cut:
            _same("copies", _readable(observed.copies), _readable(expected.deliveries))
        return
    _same("copies", _readable(observed.copies), _readable(expected.questions))
    if expected.reason is not None:
        _same("port to blame", observed.blamed, expected.drops[0].port)
    if not expected.deliveries:
        _same("target", observed.to, None)
        return
    ((port, frame),) = expected.deliveries
    _same("target", observed.to, port)
    assert_same_frame(observed.frame, frame)


def _readable(copies: Iterable[tuple[str, bytes]]) -> list[str]:
    return sorted(f"{port} {frame.hex()}" for port, frame in copies)


def _same(what: str, observed: object, expected: object) -> None:
    assert observed == expected, f"{what}: data plane {observed}, model {expected}"

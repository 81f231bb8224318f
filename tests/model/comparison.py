"""The same frames through the model and through the data plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

from model_board import ModelBoard, Observed, Tally
from packet_diff import assert_same_frame
from reference.ends import Outcome, Verdict
from reference.world import World
from traffic import Sent, Traffic

from heddle.intent.model import AnyResource


class Comparison:
    """One topology, and all that is sent in it. Fails at the first difference."""

    def __init__(self, board: ModelBoard, objects: Iterable[AnyResource]) -> None:
        self.objects = list(objects)
        self.board = board
        board.load(self.objects)
        self.world = World(self.objects)
        self.outcomes = Counter[str]()
        self._tally = Tally(Counter(), Counter(), Counter())
        self._log: list[str] = []

    def send_all(self, seeds: Iterable[int]) -> None:
        """A packet for each seed; none for 0, to which hypothesis shrinks."""
        traffic = Traffic(self.world.topology)
        for seed in seeds:
            if seed:
                self.send(traffic.next(Random(seed)))  # noqa: S311 - packets, no secrets

    def send(self, sent: Sent) -> Outcome:
        expected = self.world.send(sent.port, sent.frame, self.board.now(), sent.gso_size)
        observed = self.board.send(sent.port, sent.frame, sent.gso_size)
        self._log.append(f"{sent.port}: {sent.frame[:74].hex()} -> {expected.verdict.value}")
        self._count(sent, expected)
        try:
            _compare(expected, observed)
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

    def _count(self, sent: Sent, expected: Outcome) -> None:
        self._tally.sent[sent.port] += 1
        for port, _ in expected.deliveries:
            self._tally.received[port] += 1
        for blame in expected.drops:
            self._tally.drops[blame.port, blame.reason] += 1
        self.outcomes[expected.reason or expected.verdict.value] += 1

    def _story(self, expected: Outcome, observed: Observed) -> str:
        lines = [
            f"model: {expected.verdict.value} {expected.drops}",
            f"data plane: {observed.path}",
        ]
        lines += [f"  {observed.reason=} {observed.blamed=} {observed.to=} {observed.state=}"]
        return "\n".join([*lines, "packets before, last first:", *self._log[::-1][:20]])


def _compare(expected: Outcome, observed: Observed) -> None:
    _same("reason", observed.reason, expected.reason)
    if expected.verdict is Verdict.FLOODED:
        _same("target of a flooded frame", observed.to, None)
        _same("copies", _readable(observed.copies), _readable(expected.deliveries))
        return
    _same("copies", observed.copies, ())
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

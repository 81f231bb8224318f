"""Malformed frames through every way into the data plane.

Each goes through the model as well. None may be delivered that the model does
not deliver, to the byte; each must be accounted for; and nothing but what belongs
to packets may change.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from random import Random

from busy_world import busy_world
from model_board import STRANGER, TC_ACT_REDIRECT, ModelBoard
from mutation import FRAME_MAX, mutated
from reference.ends import Outcome, Verdict
from reference.world import World
from traffic import Sent, Traffic

from heddle.datapath.libbpf import program_info

_TEST_RUN_MIN = {b"\x08\x00": 34, b"\x86\xdd": 54}  # bytes, by ethertype
SECONDS_MAX = 5  # half the shortest timeout of a connection
BATCH = 100  # frames between looks at the counters
FRAME_SHORT = 54  # too short to be anything but what a device must take
BASES = 3000  # frames that are mutated
COMPLAINTS = ("BUG", "WARNING", "Oops", "Call Trace", "general protection", "refcount_t")


class FrameFuzz:
    def __init__(self, board: ModelBoard, seed: int) -> None:
        self._board = board
        self._begin()
        self._random = Random(seed)  # noqa: S311 - frames, no secrets
        self._bases = self._make_bases()
        self.outcomes = Counter[str]()

    def _begin(self) -> None:
        """Nothing has been sent yet, or all is forgotten: when a connection ends by
        its timeout, the model knows to a nanosecond, and the kernel's timer does not."""
        self._board.load(busy_world())
        self._world = World(busy_world())
        self._sent, self._received = Counter[str](), Counter[str]()
        self._drops = Counter[tuple[str, str]]()
        self._begun_at = self._board.now()

    def _make_bases(self) -> list[Sent]:
        traffic = Traffic(self._world.topology)
        bases = [traffic.next(self._random) for _ in range(BASES)]
        return [base for base in bases if len(base.frame) <= FRAME_MAX]

    def run(self, count: int) -> None:
        """Send so many frames; AssertionError at the first that fares otherwise.
        What is too short for a test run is written into its TAP."""
        kernel_log = KernelLog()
        before = self._board.intent_rows()
        program = program_info(self._board.datapath.from_vm.fd).id
        for start in range(0, count, BATCH):
            if self._board.now() - self._begun_at > SECONDS_MAX:
                self._begin()
            self._board.refill()
            self._world.refill()
            self._send_elsewhere()
            batch = [self._frame() for _ in range(min(BATCH, count - start))]
            expected = [self._send(sent) for sent in batch]
            self._check_counters(batch, expected)
        assert self._board.intent_rows() == before, "rows of intent have changed"
        assert program_info(self._board.datapath.from_vm.fd).id == program
        assert not kernel_log.complaints(), "the kernel complains"

    def _frame(self) -> Sent:
        base = self._random.choice(self._bases)
        frame = base.frame
        if self._random.random() < 0.95:
            frame = mutated(self._random, frame)
        gso = self._random.choice((0, 0, 0, 0, 0, 1, 500, 1400, 65535))
        return Sent(base.port, frame, gso if len(frame) > FRAME_SHORT else 0)

    def _send(self, sent: Sent) -> Outcome:
        expected = self._world.send(sent.port, sent.frame, self._board.now(), sent.gso_size)
        self._note(sent, expected)
        if len(sent.frame) < _TEST_RUN_MIN.get(sent.frame[12:14], 14):
            self._board.devices[sent.port].write(sent.frame)
            return expected
        verdict, frame = self._board.run(sent.port, sent.frame, sent.gso_size)
        unicast = expected.verdict is not Verdict.FLOODED and expected.deliveries
        wanted = expected.deliveries[0][1] if unicast else None
        actual = frame if verdict == TC_ACT_REDIRECT else None
        if actual != wanted:
            raise AssertionError(self._story(sent, expected, actual, wanted))
        return expected

    def _send_elsewhere(self) -> None:
        """One frame each at the other ways in: a device without a port; the shaper's
        end with what is for a port, and for one that has left."""
        frame = self._frame().frame.ljust(FRAME_SHORT, b"\0")
        port = self._random.choice(list(self._board.devices))
        assert self._board.at_shaper(frame, None) is None
        self._drops[STRANGER, "DROP_UNKNOWN_PORT"] += 1
        assert self._board.at_shaper(frame, port) == frame
        assert self._board.at_shaper(frame, STRANGER) is None
        self._drops[STRANGER, "DROP_NO_NEIGHBOR"] += 1

    def _note(self, sent: Sent, expected: Outcome) -> None:
        self._sent[sent.port] += 1
        self._received.update(port for port, _ in expected.deliveries)
        self._drops.update((blame.port, blame.reason) for blame in expected.drops)
        self.outcomes[expected.reason or expected.verdict.value] += 1

    def _check_counters(self, batch: list[Sent], expected: list[Outcome]) -> None:
        """Sums of all frames so far, to whom they went and why they did not."""
        for _ in self._board.copies():
            pass  # or the queues of the TAPs run full
        actual = self._board.tally()
        for name, got, want in (
            ("sent", actual.sent, self._sent),
            ("received", actual.received, self._received),
            ("drops", actual.drops, self._drops),
        ):
            if got != want:
                story = f"{name}: too many {got - want}, missing {want - got}, perhaps of"
                raise AssertionError("\n".join((story, *self._suspects(batch, expected))))

    def _suspects(self, batch: list[Sent], expected: list[Outcome]) -> Iterator[str]:
        """Frames of the batch that meet another drop reason when traced."""
        for sent, outcome in zip(batch, expected, strict=True):
            if len(sent.frame) < FRAME_SHORT:
                continue
            reason = self._board.send(sent.port, sent.frame, sent.gso_size).reason
            if reason != outcome.reason:
                yield f"{sent.port} {sent.frame.hex()}: {reason}, model {outcome.reason}"

    def _story(
        self, sent: Sent, expected: Outcome, actual: bytes | None, wanted: bytes | None
    ) -> str:
        again = self._board.send(sent.port, sent.frame, sent.gso_size)
        return "\n".join(
            (
                f"port {sent.port}, gso size {sent.gso_size}, frame {sent.frame.hex()}",
                f"model: {expected.reason or expected.verdict.value} {expected.drops}",
                f"data plane, sent once more: {again.reason} {again.path}",
                f"model's frame:      {wanted.hex() if wanted else None}",
                f"data plane's frame: {actual.hex() if actual else None}",
            )
        )


class KernelLog:
    """What the kernel says from now on, as far as it may be read."""

    def __init__(self) -> None:
        try:
            self._log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            self._log = -1
        else:
            os.lseek(self._log, 0, os.SEEK_END)

    def complaints(self) -> list[str]:
        lines: list[str] = []
        while self._log >= 0:
            try:
                lines.append(os.read(self._log, 8192).decode(errors="replace"))
            except BlockingIOError:
                os.close(self._log)
                self._log = -1
            except BrokenPipeError:  # overwritten before it was read
                continue
        return [line for line in lines if any(word in line for word in COMPLAINTS)]

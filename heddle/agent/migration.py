"""How a machine moves to another host: states, what makes them change, what to do then.

Nothing here acts or waits. Each of the two agents holds a ``Course`` for a
machine that moves, tells it what has happened, and carries out what it says.

The host that the machine leaves (``Leaving``)::

    WAITING --ready--> COPYING --taken--> MOVING --paused--> SWITCHING --moved--> GONE
       |                  |                 |  ^                 |                  |
    refused, late, ended  |               failed  <---resumed----+             committed
       |                  |                 |                    |                  |
       +------------------+-----------------+-------failed-------+                  |
                                            v                                       v
                                         STAYING -------------committed-----------> OVER

    WAITING    the other host makes TAPs and rows, and sees whether it can have the machine
    COPYING    it has them: connections are on their way to it
    MOVING     it has those too: the hypervisor copies memory, the machine runs here
    SWITCHING  the machine stands still: what arrives for it is sent on to the other host
    GONE       it runs there; the store has to learn of it
    STAYING    it came to nothing: the machine runs here, the store has to learn of it

The host that it comes to (``Arriving``)::

    PREPARING --prepared--> OFFERED --connections--> LOADED --first frame, runs--> ACTIVE
        |                      |                       |                             |
      unfit                    +------withdrawn--------+                         committed
        v                                              v                             v
     REFUSED ----------------withdrawn--------------> OVER <--complete, late--- SETTLING

    SETTLING   the store knows: the last word about connections may be on its way still

The machine works where it was until the hypervisor says that it has moved: only
MOVED leads to GONE, and only the machine's own frame, or that it runs, to ACTIVE.
Whoever sees first that it has moved writes so to the store; both would write the
same. A migration that virsh began, or that went on while an agent was dead, takes the
same course: MOVE then finds it under way, and what is late or left out is caught up
with by the next event.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar


class Leaving(StrEnum):
    """Where a machine's migration is on the host that it leaves."""

    WAITING = "waiting"
    COPYING = "copying"
    MOVING = "moving"
    SWITCHING = "switching"
    GONE = "gone"
    STAYING = "staying"
    OVER = "over"


class Arriving(StrEnum):
    """The same on the host that it comes to."""

    PREPARING = "preparing"
    OFFERED = "offered"
    LOADED = "loaded"
    ACTIVE = "active"
    SETTLING = "settling"
    REFUSED = "refused"
    OVER = "over"


class Event(StrEnum):
    """What has happened."""

    # to the host that the machine leaves
    READY = "ready"  # the other host has all that the machine needs
    REFUSED = "refused"  # the other host can't have it
    TAKEN = "taken"  # the other host has its connections
    PAUSED = "paused"  # the hypervisor has stopped it, to switch
    RESUMED = "resumed"  # the hypervisor has let it go on here
    MOVED = "moved"  # the hypervisor, or the store, says that it runs there
    FAILED = "failed"  # the hypervisor has given up
    ENDED = "ended"  # it is off, without having moved
    CALLED_OFF = "called off"  # somebody wants it to stay
    UNDER_WAY = "under way"  # the hypervisor moves it, whoever asked it to
    LATE = "late"  # the state has lasted longer than it may

    # to the host that it comes to
    PREPARED = "prepared"  # links and rows are there, and so is what it boots from
    UNFIT = "unfit"  # something of it can't be had here
    CONNECTIONS = "connections"  # more of them have come
    FIRST_FRAME = "first frame"  # the machine has sent one here
    RUNS = "runs"  # the hypervisor says that it runs here
    COMPLETE = "complete"  # all that the other host had to tell of connections is here

    # to both
    WITHDRAWN = "withdrawn"  # the store says no longer that it shall move
    COMMITTED = "committed"  # the store has what was to be written


class Action(StrEnum):
    """What to do."""

    SEND_CONNECTIONS = "send connections"  # what the other host does not know of them yet
    MOVE = "move"  # let the hypervisor begin, unless it has
    ABORT = "abort"  # let the hypervisor give up
    TURN_AWAY = "turn away"  # rows: it is at the other host
    TURN_BACK = "turn back"  # rows: it is here after all
    REPORT_READY = "report ready"
    REPORT_REFUSED = "report refused"
    ADOPT = "adopt"  # the connections that have come, and say so
    AWAIT_REST = "await rest"  # of them, if there is any
    TURN_HERE = "turn here"  # rows: it is here
    COMMIT_MOVED = "commit moved"
    COMMIT_STAYED = "commit stayed"


State = TypeVar("State", bound=StrEnum)
Table = Mapping[tuple[State, Event], tuple[State, tuple[Action, ...]]]

_L, _A, _E, _DO = Leaving, Arriving, Event, Action

_STAY = (_L.STAYING, (_DO.COMMIT_STAYED,))
_STAY_AFTER_ALL = (_L.STAYING, (_DO.TURN_BACK, _DO.COMMIT_STAYED))
_SWITCH = (_L.SWITCHING, (_DO.TURN_AWAY, _DO.SEND_CONNECTIONS))
_ALL_AT_ONCE = (_L.GONE, (_DO.TURN_AWAY, _DO.SEND_CONNECTIONS, _DO.COMMIT_MOVED))

LEAVING: Table[Leaving] = {
    (_L.WAITING, _E.READY): (_L.COPYING, (_DO.SEND_CONNECTIONS,)),
    (_L.WAITING, _E.REFUSED): _STAY,
    (_L.WAITING, _E.LATE): _STAY,
    (_L.WAITING, _E.CALLED_OFF): _STAY,
    (_L.WAITING, _E.ENDED): _STAY,
    (_L.WAITING, _E.WITHDRAWN): (_L.OVER, ()),
    (_L.WAITING, _E.UNDER_WAY): (_L.MOVING, (_DO.SEND_CONNECTIONS, _DO.MOVE)),
    (_L.WAITING, _E.PAUSED): _SWITCH,
    (_L.WAITING, _E.MOVED): _ALL_AT_ONCE,
    (_L.COPYING, _E.TAKEN): (_L.MOVING, (_DO.MOVE,)),
    (_L.COPYING, _E.REFUSED): _STAY,
    (_L.COPYING, _E.LATE): _STAY,
    (_L.COPYING, _E.CALLED_OFF): _STAY,
    (_L.COPYING, _E.ENDED): _STAY,
    (_L.COPYING, _E.WITHDRAWN): (_L.OVER, ()),
    (_L.COPYING, _E.UNDER_WAY): (_L.MOVING, (_DO.MOVE,)),
    (_L.COPYING, _E.PAUSED): _SWITCH,
    (_L.COPYING, _E.MOVED): _ALL_AT_ONCE,
    (_L.MOVING, _E.PAUSED): _SWITCH,
    (_L.MOVING, _E.MOVED): _ALL_AT_ONCE,
    (_L.MOVING, _E.FAILED): _STAY,
    (_L.MOVING, _E.ENDED): _STAY,
    # The hypervisor decides whether it is too late to give up.
    (_L.MOVING, _E.REFUSED): (_L.MOVING, (_DO.ABORT,)),
    (_L.MOVING, _E.LATE): (_L.MOVING, (_DO.ABORT,)),
    (_L.MOVING, _E.CALLED_OFF): (_L.MOVING, (_DO.ABORT,)),
    (_L.MOVING, _E.WITHDRAWN): (_L.MOVING, (_DO.ABORT,)),
    (_L.SWITCHING, _E.MOVED): (_L.GONE, (_DO.COMMIT_MOVED,)),
    (_L.SWITCHING, _E.RESUMED): (_L.MOVING, (_DO.TURN_BACK,)),
    (_L.SWITCHING, _E.FAILED): _STAY_AFTER_ALL,
    (_L.SWITCHING, _E.ENDED): _STAY_AFTER_ALL,
    (_L.SWITCHING, _E.REFUSED): (_L.SWITCHING, (_DO.ABORT,)),
    (_L.SWITCHING, _E.LATE): (_L.SWITCHING, (_DO.ABORT,)),
    (_L.SWITCHING, _E.CALLED_OFF): (_L.SWITCHING, (_DO.ABORT,)),
    (_L.SWITCHING, _E.WITHDRAWN): (_L.SWITCHING, (_DO.ABORT,)),
    (_L.GONE, _E.COMMITTED): (_L.OVER, ()),
    (_L.STAYING, _E.COMMITTED): (_L.OVER, ()),
    (_L.STAYING, _E.WITHDRAWN): (_L.OVER, ()),
    # Nobody knew better until the machine itself spoke up there.
    (_L.STAYING, _E.MOVED): _ALL_AT_ONCE,
}

_HERE = (_A.ACTIVE, (_DO.TURN_HERE, _DO.COMMIT_MOVED))

ARRIVING: Table[Arriving] = {
    (_A.PREPARING, _E.PREPARED): (_A.OFFERED, (_DO.REPORT_READY,)),
    (_A.PREPARING, _E.UNFIT): (_A.REFUSED, (_DO.REPORT_REFUSED,)),
    (_A.PREPARING, _E.WITHDRAWN): (_A.OVER, ()),
    (_A.PREPARING, _E.FIRST_FRAME): _HERE,
    (_A.PREPARING, _E.RUNS): _HERE,
    (_A.OFFERED, _E.CONNECTIONS): (_A.LOADED, (_DO.ADOPT,)),
    (_A.OFFERED, _E.UNFIT): (_A.REFUSED, (_DO.REPORT_REFUSED,)),
    (_A.OFFERED, _E.WITHDRAWN): (_A.OVER, ()),
    (_A.OFFERED, _E.FIRST_FRAME): _HERE,
    (_A.OFFERED, _E.RUNS): _HERE,
    (_A.LOADED, _E.CONNECTIONS): (_A.LOADED, (_DO.ADOPT,)),
    (_A.LOADED, _E.UNFIT): (_A.REFUSED, (_DO.REPORT_REFUSED,)),
    (_A.LOADED, _E.WITHDRAWN): (_A.OVER, ()),
    (_A.LOADED, _E.FIRST_FRAME): _HERE,
    (_A.LOADED, _E.RUNS): _HERE,
    (_A.ACTIVE, _E.CONNECTIONS): (_A.ACTIVE, (_DO.ADOPT,)),
    (_A.ACTIVE, _E.COMMITTED): (_A.SETTLING, (_DO.AWAIT_REST,)),
    (_A.ACTIVE, _E.WITHDRAWN): (_A.ACTIVE, (_DO.COMMIT_MOVED,)),  # by mistake: it is here
    (_A.SETTLING, _E.CONNECTIONS): (_A.SETTLING, (_DO.ADOPT,)),
    (_A.SETTLING, _E.COMPLETE): (_A.OVER, ()),
    (_A.SETTLING, _E.LATE): (_A.OVER, ()),
    (_A.SETTLING, _E.WITHDRAWN): (_A.OVER, ()),
    (_A.REFUSED, _E.WITHDRAWN): (_A.OVER, ()),
    (_A.REFUSED, _E.RUNS): _HERE,
    (_A.REFUSED, _E.FIRST_FRAME): _HERE,
}


class Timeouts(NamedTuple):
    """Seconds that a state may last; what is not named may last for ever."""

    waiting: float = 60.0
    copying: float = 30.0
    moving: float = 600.0
    switching: float = 60.0
    settling: float = 10.0

    def of(self, state: StrEnum) -> float | None:
        limit: float | None = self._asdict().get(state.value)
        return limit


class Course(Generic[State]):
    """One machine's migration as one of the two hosts sees it."""

    def __init__(self, table: Table[State], state: State) -> None:
        self._table = table
        self.state = state

    @property
    def is_over(self) -> bool:
        return self.state.value == "over"

    def step(self, event: Event) -> tuple[Action, ...]:
        """Go on, and return what to do now. An event that means nothing in
        this state (a late answer, one that is told twice) changes nothing."""
        found = self._table.get((self.state, event))
        if found is None:
            return ()
        self.state, actions = found
        return actions


def leaving() -> Course[Leaving]:
    """A migration that begins, on the host that the machine leaves."""
    return Course(LEAVING, Leaving.WAITING)


def arriving() -> Course[Arriving]:
    """The same on the host that it comes to."""
    return Course(ARRIVING, Arriving.PREPARING)

"""The messages of etcd's API that heddle speaks (etcd 3.4, etcdserverpb/rpc.proto)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from heddle.store.etcd.wire import data, fields, message, number, signed

RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
WATCH = "/etcdserverpb.Watch/Watch"
LEASE_GRANT = "/etcdserverpb.Lease/LeaseGrant"
LEASE_REVOKE = "/etcdserverpb.Lease/LeaseRevoke"
LEASE_KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
LEASE_TIME_TO_LIVE = "/etcdserverpb.Lease/LeaseTimeToLive"
AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"
STATUS = "/etcdserverpb.Maintenance/Status"
ALARM = "/etcdserverpb.Maintenance/Alarm"

ALARM_NOSPACE = 1
_TARGET_CREATE, _TARGET_MOD, _TARGET_VALUE = 1, 2, 3
_NOT_EQUAL = 3


class KeyValue(NamedTuple):
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


def end_of(prefix: bytes) -> bytes:
    """The first key after all that begin with ``prefix``."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


# ---- requests ------------------------------------------------------------


def get(key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0) -> bytes:
    """A RangeRequest: one key, or those from ``key`` up to before ``end``; of
    now or of a past revision."""
    return data(1, key) + data(2, end) + number(3, limit) + number(4, revision)


def put(key: bytes, value: bytes, lease: int = 0) -> bytes:
    """A PutRequest as a step of a transaction."""
    return message(2, data(1, key) + data(2, value) + number(3, lease))


def delete(key: bytes, end: bytes = b"") -> bytes:
    """A DeleteRangeRequest as a step of a transaction."""
    return message(3, data(1, key) + data(2, end))


def read(key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0) -> bytes:
    """A RangeRequest as a step of a transaction."""
    return message(1, get(key, end, limit=limit, revision=revision))


def is_absent(key: bytes) -> bytes:
    """A condition: nobody has this key."""
    return number(2, _TARGET_CREATE) + data(3, key) + message_number(5, 0)


def is_present(key: bytes) -> bytes:
    return number(1, _NOT_EQUAL) + number(2, _TARGET_CREATE) + data(3, key) + message_number(5, 0)


def is_of(key: bytes, mod_revision: int) -> bytes:
    """A condition: the key was last written in this revision (0: is absent)."""
    return number(2, _TARGET_MOD) + data(3, key) + message_number(6, mod_revision)


def has_value(key: bytes, value: bytes) -> bytes:
    return number(2, _TARGET_VALUE) + data(3, key) + message(7, value)


def message_number(field_number: int, value: int) -> bytes:
    """A number of a ``oneof``, which is said also when it is zero."""
    return number(field_number, value) or bytes([field_number << 3, 0])


def transaction(
    conditions: Iterable[bytes], steps: Iterable[bytes], otherwise: Iterable[bytes] = ()
) -> bytes:
    """A TxnRequest: ``steps`` when all conditions hold, else ``otherwise``."""
    parts = [message(1, one) for one in conditions]
    parts += [message(2, one) for one in steps]
    parts += [message(3, one) for one in otherwise]
    return b"".join(parts)


def create_watch(watch_id: int, key: bytes, end: bytes, start_revision: int) -> bytes:
    """A WatchRequest that begins to follow a range of keys."""
    body = data(1, key) + data(2, end) + number(3, start_revision) + number(7, watch_id)
    return message(1, body)


def cancel_watch(watch_id: int) -> bytes:
    return message(2, number(1, watch_id))


def grant_lease(seconds: int) -> bytes:
    return number(1, seconds)


def lease_id(lease: int) -> bytes:
    """A request that names a lease, and nothing else."""
    return number(1, lease)


def authenticate(user: str, password: str) -> bytes:
    return data(1, user.encode()) + data(2, password.encode())


# ---- answers -------------------------------------------------------------


@dataclass(slots=True)
class RangeAnswer:
    revision: int = 0
    items: list[KeyValue] = field(default_factory=list)
    more: bool = False


@dataclass(slots=True)
class TxnAnswer:
    revision: int = 0
    succeeded: bool = False
    ranges: list[RangeAnswer] = field(default_factory=list)


class Event(NamedTuple):
    """``value`` is None for a deletion."""

    key: bytes
    value: bytes | None
    mod_revision: int


@dataclass(slots=True)
class WatchAnswer:
    revision: int = 0
    watch_id: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    reason: str = ""
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class LeaseAnswer:
    """``granted`` and ``seconds``: how long it lasts at most, and how long it
    still does (0 or less: it has ended)."""

    id: int = 0
    seconds: int = 0
    granted: int = 0
    revision: int = 0


@dataclass(slots=True)
class MemberStatus:
    version: str = ""
    size: int = 0
    leader: int = 0


def read_range(buffer: bytes) -> RangeAnswer:
    answer = RangeAnswer()
    for name, value in fields(buffer):
        if name == 1:
            answer.revision = _revision(value)
        elif name == 2:
            answer.items.append(_key_value(value))
        elif name == 3:
            answer.more = bool(value)
    return answer


def read_transaction(buffer: bytes) -> TxnAnswer:
    answer = TxnAnswer()
    for name, value in fields(buffer):
        if name == 1:
            answer.revision = _revision(value)
        elif name == 2:
            answer.succeeded = bool(value)
        elif name == 3:
            answer.ranges += [
                read_range(_bytes(part)) for kind, part in fields(_bytes(value)) if kind == 1
            ]
    return answer


def read_watch(buffer: bytes) -> WatchAnswer:
    answer = WatchAnswer()
    for name, value in fields(buffer):
        match name:
            case 1:
                answer.revision = _revision(value)
            case 2:
                answer.watch_id = _int(value)
            case 3:
                answer.created = bool(value)
            case 4:
                answer.canceled = bool(value)
            case 5:
                answer.compact_revision = _int(value)
            case 6:
                answer.reason = _bytes(value).decode(errors="replace")
            case 11:
                answer.events.append(_event(_bytes(value)))
    return answer


def read_lease(buffer: bytes) -> LeaseAnswer:
    """Of a lease that was granted, kept or asked about."""
    answer = LeaseAnswer()
    for name, value in fields(buffer):
        match name:
            case 1:
                answer.revision = _revision(value)
            case 2:
                answer.id = _int(value)
            case 3:
                answer.seconds = signed(_int(value))
            case 4 if isinstance(value, int):
                answer.granted = value
    return answer


def read_token(buffer: bytes) -> str:
    return next((_bytes(value).decode() for name, value in fields(buffer) if name == 2), "")


def read_status(buffer: bytes) -> MemberStatus:
    status = MemberStatus()
    for name, value in fields(buffer):
        match name:
            case 2:
                status.version = _bytes(value).decode()
            case 3:
                status.size = _int(value)
            case 4:
                status.leader = _int(value)
    return status


def read_alarms(buffer: bytes) -> list[int]:
    """What kinds of alarms are raised by any member."""
    members = (_bytes(value) for name, value in fields(buffer) if name == 2)
    return [_int(kind) for member in members for name, kind in fields(member) if name == 2]


def _key_value(value: int | bytes) -> KeyValue:
    key = content = b""
    created = modified = lease = 0
    for name, part in fields(_bytes(value)):
        if name == 1:
            key = _bytes(part)
        elif name == 5:
            content = _bytes(part)
        elif name == 3:
            modified = _int(part)
        elif name == 2:
            created = _int(part)
        elif name == 6:
            lease = _int(part)
    return KeyValue(key, content, created, modified, lease)


def _event(buffer: bytes) -> Event:
    deleted, item = False, KeyValue(b"", b"", 0, 0)
    for name, value in fields(buffer):
        if name == 1:
            deleted = bool(value)
        elif name == 2:
            item = _key_value(value)
    return Event(item.key, None if deleted else item.value, item.mod_revision)


def _revision(header: int | bytes) -> int:
    return next((_int(value) for name, value in fields(_bytes(header)) if name == 3), 0)


def _int(value: int | bytes) -> int:
    if isinstance(value, int):
        return value
    raise ValueError("a number was expected")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("bytes were expected")

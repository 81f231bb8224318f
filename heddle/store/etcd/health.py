"""How an etcd cluster is, member by member."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

from heddle.errors import StoreError
from heddle.settings import EtcdSettings, Member
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import HEAD
from heddle.store.etcd.messages import (
    ALARM,
    ALARM_NOSPACE,
    RANGE,
    STATUS,
    MemberStatus,
    get,
    read_alarms,
    read_status,
)

_MEMBER_SECONDS = 1.5
_WHOLE_SECONDS = 3.0  # members elect a new leader in less


class Health(NamedTuple):
    """``silent``: why members do not answer, by endpoint. ``trouble``: why the
    cluster does not; then the rest is unknown. ``size`` of the database in bytes."""

    versions: dict[str, str]
    silent: dict[str, str]
    trouble: str = ""
    milliseconds: float = 0.0
    size: int = 0
    out_of_space: bool = False


def examine(settings: EtcdSettings) -> Health:
    """Ask each member, and the cluster as a whole. All at once, so that it takes no
    longer where several hang."""
    with ThreadPoolExecutor(len(settings.endpoints) + 1, "etcd-health") as pool:
        whole = pool.submit(_as_a_whole, settings)
        answers = list(pool.map(lambda member: _status(settings, member), settings.endpoints))
    named = [
        (member.url, answer) for member, answer in zip(settings.endpoints, answers, strict=True)
    ]
    known = {url: answer for url, answer in named if isinstance(answer, MemberStatus)}
    return whole.result()._replace(
        versions={url: status.version for url, status in known.items()},
        silent={url: answer for url, answer in named if isinstance(answer, str)},
        size=max((status.size for status in known.values()), default=0),
    )


def _status(settings: EtcdSettings, member: Member) -> MemberStatus | str:
    """Of one member; or why it does not answer."""
    with closing(EtcdClient(settings._replace(endpoints=(member,)), _MEMBER_SECONDS)) as client:
        try:
            return read_status(client.read(STATUS, b""))
        except StoreError as error:
            return str(error)


def _as_a_whole(settings: EtcdSettings) -> Health:
    """``trouble``, or the rest but what members say each."""
    with closing(EtcdClient(settings, _WHOLE_SECONDS)) as client:
        try:
            client.read(RANGE, get(HEAD))  # connect, and log in
            began = time.monotonic()
            client.read(RANGE, get(HEAD))
            milliseconds = (time.monotonic() - began) * 1000
            alarms = read_alarms(client.read(ALARM, b""))
        except StoreError as error:
            return Health({}, {}, trouble=str(error))
    return Health({}, {}, milliseconds=milliseconds, out_of_space=ALARM_NOSPACE in alarms)

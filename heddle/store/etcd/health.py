"""How an etcd cluster is, member by member."""

from __future__ import annotations

import time
from contextlib import closing
from typing import NamedTuple

from heddle.errors import StoreError
from heddle.settings import EtcdSettings
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import HEAD
from heddle.store.etcd.messages import (
    ALARM,
    ALARM_NOSPACE,
    RANGE,
    STATUS,
    get,
    read_alarms,
    read_status,
)

_PATIENCE_SECONDS = 1.5


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
    """Ask each member, and the cluster as a whole."""
    versions: dict[str, str] = {}
    silent: dict[str, str] = {}
    size = 0
    for member in settings.endpoints:
        with closing(EtcdClient(settings._replace(endpoints=(member,)), _PATIENCE_SECONDS)) as one:
            try:
                status = read_status(one.read(STATUS, b""))
            except StoreError as error:
                silent[member.url] = str(error)
                continue
        versions[member.url] = status.version
        size = max(size, status.size)
    health = Health(versions, silent, size=size)
    try:
        return _as_a_whole(settings, health)
    except StoreError as error:
        return health._replace(trouble=str(error))


def _as_a_whole(settings: EtcdSettings, health: Health) -> Health:
    with closing(EtcdClient(settings, _PATIENCE_SECONDS)) as client:
        client.read(RANGE, get(HEAD))  # connect, and log in
        began = time.monotonic()
        client.read(RANGE, get(HEAD))
        milliseconds = (time.monotonic() - began) * 1000
        alarms = read_alarms(client.read(ALARM, b""))
    return health._replace(milliseconds=milliseconds, out_of_space=ALARM_NOSPACE in alarms)

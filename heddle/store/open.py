"""The store that the settings of this host choose: a file of its own, or etcd.

Imports are late: who has no etcd must not pay for its client, and who only
reads must not for the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heddle.paths import host_name, intent_cache_file, settings_file, store_file
from heddle.settings import HostSettings, read_settings
from heddle.store.reader import Reader, SqliteReader

if TYPE_CHECKING:
    from heddle.store.interface import Store
    from heddle.store.mail import Mail


# Members elect a new leader in less; who asks wants an answer.
_READ_PATIENCE_SECONDS = 3.0


def open_store(settings: HostSettings | None = None) -> Store:
    """For reading and writing intent, and the facts of this host."""
    settings = settings or read_settings(settings_file())
    if settings.etcd is None:
        from heddle.store.sqlite import SqliteStore

        return SqliteStore(store_file())
    from heddle.store.etcd.store import EtcdStore

    return EtcdStore(settings.etcd, host_name(), intent_cache_file())


def open_mail(settings: HostSettings) -> Mail:
    """What this host's agent and those of others write to each other."""
    if settings.etcd is None:
        from heddle.store.mail import NoMail

        return NoMail()
    from heddle.store.etcd.mail import EtcdMail

    return EtcdMail(settings.etcd, host_name())


def open_reader() -> Reader:
    """For reading only."""
    settings = read_settings(settings_file())
    if settings.etcd is None:
        return SqliteReader(store_file())
    from heddle.store.etcd.client import EtcdClient
    from heddle.store.etcd.reading import EtcdReader

    return EtcdReader(EtcdClient(settings.etcd, _READ_PATIENCE_SECONDS))


def has_store() -> bool:
    """Whether there may be something stored: a file that is there, or etcd."""
    return read_settings(settings_file()).etcd is not None or store_file().exists()

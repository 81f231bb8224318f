"""A client of an etcd cluster: any of its members, logged in, over TLS if wanted.

Reads are repeated at another member when one does not answer. A write is sent
once: when its answer is lost, UnsureError tells the caller, who knows how to
find out what became of it.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from heddle.errors import StoreError
from heddle.settings import EtcdSettings
from heddle.store.etcd import messages
from heddle.store.etcd.connection import (
    Connection,
    LostError,
    RefusedError,
    Stream,
    UnreachableError,
    UntrustedError,
)
from heddle.store.etcd.pauses import Pauses
from heddle.store.interface import CompactedError

CALL_SECONDS = 4.0  # for an answer, before another member is asked
PATIENCE_SECONDS = 9.0  # for a call, all members and repetitions together
_UNAVAILABLE = 14  # gRPC's status code

_LOG_IN_AGAIN = ("invalid auth token", "revision of auth store is old")
_OUT_OF_SPACE = "database space exceeded"
_REMEDIES = {
    _OUT_OF_SPACE: "etcd is out of space (alarm NOSPACE); compact and defragment it, "
    "or raise its quota, then `etcdctl alarm disarm`",
    "user name is empty": "etcd wants a user: give user and password_file in [store] of the "
    "settings",
    "authentication failed": "etcd does not accept the user and password of the settings",
    "permission denied": "the user has no right to read and write below /heddle/",
    "is too large": "etcd does not take a request of this size; raise its --max-request-bytes",
    "too many operations": "etcd does not take so many operations at once; leave its "
    "--max-txn-ops at 128 or more",
}


class UnsureError(StoreError):
    """A write was sent, its answer was lost: it may have happened."""


class OutOfSpaceError(UnsureError):
    """etcd has no space. The write that is the first to find out is carried
    out all the same (etcd 3.4, apply.go, quotaApplierV3)."""


class EtcdClient:
    """Usable from any thread. One connection, made when first needed, to one of
    the members: another is tried when it fails."""

    def __init__(self, settings: EtcdSettings, patience: float = PATIENCE_SECONDS) -> None:
        """``patience``: for how long a call tries, in seconds."""
        self._settings = settings
        self._patience = patience
        self._endpoints = list(settings.endpoints)
        # So that a thousand agents do not all turn to the first one.
        self._current = random.randrange(len(self._endpoints))  # noqa: S311 (no secret)
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._token = ""
        self._pauses = Pauses()  # between two rounds over the members
        self.name = "etcd " + ", ".join(endpoint.url for endpoint in self._endpoints)

    def read(self, path: str, request: bytes, *, patience: float | None = None) -> bytes:
        """A call that may be repeated. StoreError when no member answers."""
        return self._call(path, request, patience or self._patience, repeat=True)

    def write(self, path: str, request: bytes) -> bytes:
        """A call that is carried out once at most. UnsureError when nobody
        knows whether it was."""
        return self._call(path, request, self._patience, repeat=False)

    def range(
        self, key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0
    ) -> messages.RangeAnswer:
        request = messages.get(key, end, limit=limit, revision=revision)
        return messages.read_range(self.read(messages.RANGE, request))

    def reads(self, steps: list[bytes]) -> messages.TxnAnswer:
        """Several ranges as of one revision."""
        answer = self.read(messages.TXN, messages.transaction((), steps))
        return messages.read_transaction(answer)

    def transaction(
        self, conditions: list[bytes], steps: list[bytes], otherwise: list[bytes] | None = None
    ) -> messages.TxnAnswer:
        request = messages.transaction(conditions, steps, otherwise or [])
        return messages.read_transaction(self.write(messages.TXN, request))

    def overwrite(self, steps: list[bytes]) -> None:
        """Writes that may as well happen twice."""
        self.read(messages.TXN, messages.transaction((), steps))

    def begin(
        self,
        path: str,
        on_message: Callable[[bytes], None],
        on_end: Callable[[StoreError | None], None],
    ) -> tuple[Connection, Stream]:
        """A call that goes on, such as a watch. LostError when no member answers."""
        connection = self._connect(time.monotonic() + self._patience)
        self._log_in(connection)
        stream = Stream(on_message, on_end)
        connection.open(path, self._metadata(), stream)
        return connection, stream

    def log_in_again(self) -> None:
        """The token is not accepted any more."""
        self._token = ""

    def close(self) -> None:
        self._pauses.end()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # ---- calls -----------------------------------------------------------

    def _call(self, path: str, request: bytes, patience: float, *, repeat: bool) -> bytes:
        deadline = time.monotonic() + patience
        logged_in_again = False
        while True:
            connection = self._connect(deadline)
            try:
                self._log_in(connection)
                answer = connection.call(path, self._metadata(), request, self._share(deadline))
                self._pauses.reset()
                return answer
            except UnreachableError as error:  # in between, before anything was sent
                self._turn_away(connection)
                self._pause(deadline, error)
            except LostError as error:
                self._turn_away(connection)
                if not repeat:
                    raise UnsureError(f"{self.name}: {error}; it may have happened") from error
                self._pause(deadline, error)
            except RefusedError as error:
                if error.code == _UNAVAILABLE or "too many requests" in str(error):
                    self._turn_away(connection)
                    if not repeat:
                        raise UnsureError(f"{self.name}: {error}") from error
                    self._pause(deadline, error)
                elif any(text in str(error) for text in _LOG_IN_AGAIN) and not logged_in_again:
                    logged_in_again, self._token = True, ""
                else:
                    raise self._explained(error) from error

    def _share(self, deadline: float) -> float:
        """For how many seconds one member may keep a call waiting: time must be left
        for others."""
        left = deadline - time.monotonic()
        return min(CALL_SECONDS, max(left / min(len(self._endpoints), 2), 0.5))

    def _pause(self, deadline: float, error: StoreError) -> None:
        if not self._pauses.take(deadline):
            raise StoreError(f"{self.name}: no member answers ({error})") from error

    def _explained(self, error: RefusedError) -> StoreError:
        text = str(error).removeprefix("etcdserver: ")
        if "has been compacted" in text:
            return CompactedError(f"{self.name}: {text}; take a new snapshot")
        remedy = next((r for words, r in _REMEDIES.items() if words in text), "")
        kind = OutOfSpaceError if text.endswith(_OUT_OF_SPACE) else StoreError
        return kind(f"{self.name}: {remedy} ({text})" if remedy else f"{self.name}: {text}")

    # ---- connections -----------------------------------------------------

    def _connect(self, deadline: float) -> Connection:
        """The connection in use, or a new one to the first member that takes it."""
        with self._lock:
            if self._connection is not None and self._connection.alive:
                return self._connection
            errors: list[StoreError] = []
            while not self._pauses.ended:
                for _ in self._endpoints:
                    endpoint = self._endpoints[self._current]
                    try:
                        self._connection = Connection(endpoint, self._context())
                        return self._connection
                    except UnreachableError as error:
                        errors.append(error)
                        self._current = (self._current + 1) % len(self._endpoints)
                hopeless = all(isinstance(error, UntrustedError) for error in errors)
                if hopeless or not self._pauses.take(deadline):
                    break
        reasons = "; ".join(dict.fromkeys(str(one) for one in errors[-len(self._endpoints) :]))
        raise UnreachableError(f"etcd does not answer: {reasons or 'closed'}")

    def _turn_away(self, connection: Connection) -> None:
        """From a member that does not do its work, to the next."""
        with self._lock:
            if self._connection is connection:
                self._connection = None
                self._current = (self._current + 1) % len(self._endpoints)
        connection.fail("given up")

    def _metadata(self) -> Mapping[str, str]:
        # A member that is cut off from the others must say so, not wait.
        metadata = {"hasleader": "true"}
        return {**metadata, "token": self._token} if self._token else metadata

    def _log_in(self, connection: Connection) -> None:
        if self._token or not self._settings.user:
            return
        password = _secret(self._settings.password_file)
        request = messages.authenticate(self._settings.user, password)
        try:
            answer = connection.call(messages.AUTHENTICATE, {}, request, CALL_SECONDS)
        except RefusedError as error:
            if "authentication is not enabled" in str(error):
                return  # etcd takes everybody
            raise
        self._token = messages.read_token(answer)

    def _context(self) -> ssl.SSLContext | None:
        settings = self._settings
        if self._tls is None and any(endpoint.tls for endpoint in self._endpoints):
            try:
                self._tls = ssl.create_default_context(cafile=settings.ca)
                if settings.cert is not None:
                    self._tls.load_cert_chain(settings.cert, settings.key)
            except OSError as error:
                files = ", ".join(str(f) for f in (settings.ca, settings.cert, settings.key) if f)
                raise StoreError(f"{files}: {error.strerror or error}; see [store]") from error
            self._tls.set_alpn_protocols(["h2"])
        return self._tls


def _secret(file: Path | None) -> str:
    """The password, which stands alone in a file."""
    if file is None:
        raise StoreError("[store] has a user but no password_file")
    try:
        return file.read_text(encoding="utf-8").strip("\r\n")
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}; it holds etcd's password") from error

"""gRPC over one HTTP/2 connection to one etcd member.

A thread reads; calls may come from any thread. One lock guards protocol state
and socket, since a TLS connection does not bear reading and writing at once.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from heddle.errors import StoreError
from heddle.settings import Member

CONNECT_SECONDS = 2.0
IDLE_SECONDS = 10.0  # without a word before we ask; etcd minds more than one ping in 5 s
ANSWER_SECONDS = 5.0  # for the answer to that
_WINDOW = (1 << 31) - 1  # we take what comes: the data is asked for in pages
_CHUNK = 1 << 18
_PREFIX = struct.Struct(">BI")  # gRPC: compressed, length
_OK = "0"


class LostError(StoreError):
    """The connection is gone or silent: whether the call was carried out is not known."""


class UnreachableError(LostError):
    """There was no connection in the first place: the call was not carried out."""


class UntrustedError(UnreachableError):
    """The member's certificate is not what the settings ask for."""


class RefusedError(StoreError):
    """The member answered, and it was no. ``code`` is gRPC's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Stream:
    """A call under way. Callbacks run in the reading thread and must be quick."""

    def __init__(
        self, on_message: Callable[[bytes], None], on_end: Callable[[StoreError | None], None]
    ) -> None:
        self.id = 0
        self.unsent = b""
        self.ends = False  # nothing more will be sent
        self._buffer = bytearray()
        self._status: tuple[str, str] | None = None
        self._on_message = on_message
        self._on_end: Callable[[StoreError | None], None] | None = on_end

    def headers(self, headers: Mapping[str, str]) -> None:
        if "grpc-status" in headers:
            self._status = headers["grpc-status"], headers.get("grpc-message", "")
        elif headers.get(":status", "200") != "200":
            self._status = "2", f"HTTP status {headers[':status']}"

    def data(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _PREFIX.size:
            _, size = _PREFIX.unpack_from(self._buffer)
            end = _PREFIX.size + size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_PREFIX.size : end])
            del self._buffer[:end]
            self._on_message(body)

    def end(self, error: StoreError | None = None) -> None:
        """Once only, however often it ends."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        if error is None and self._status is None:
            error = LostError("the call was cut off")
        elif error is None and self._status is not None and self._status[0] != _OK:
            error = RefusedError(int(self._status[0]), self._status[1])
        on_end(error)


class Connection:
    """Raises UnreachableError when it can't be made."""

    def __init__(self, endpoint: Member, tls: ssl.SSLContext | None) -> None:
        self.endpoint = endpoint
        self._lock = threading.RLock()
        self._streams: dict[int, Stream] = {}
        self._error: StoreError | None = None
        self._socket = _connect(endpoint, tls)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._http = h2.connection.H2Connection(config)
        self._heard_at = time.monotonic()
        self._heard = False  # anything at all
        self._pinged = False
        with self._lock:
            try:
                self._begin()
            except LostError as error:
                self._socket.close()
                raise UnreachableError(str(error)) from error
        self._reader = threading.Thread(target=self._read, name="etcd", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self._error is None

    def open(self, path: str, metadata: Mapping[str, str], stream: Stream) -> None:
        """Begin a call; LostError when the connection is gone."""
        scheme, _, authority = self.endpoint.url.partition("://")
        headers = {
            ":method": "POST",
            ":scheme": scheme,
            ":authority": authority,
            ":path": path,
            "te": "trailers",
            "content-type": "application/grpc",
            **metadata,
        }
        with self._lock:
            self._check()
            stream.id = self._http.get_next_available_stream_id()
            self._streams[stream.id] = stream
            self._http.send_headers(stream.id, list(headers.items()))
            self._flush()

    def send(self, stream: Stream, message: bytes, *, last: bool = False) -> None:
        """Send a message of a call, and with ``last`` say that it was the last."""
        with self._lock:
            self._check()
            stream.unsent += _PREFIX.pack(0, len(message)) + message
            stream.ends = last
            self._push(stream)
            self._flush()

    def call(self, path: str, metadata: Mapping[str, str], message: bytes, seconds: float) -> bytes:
        """One message there and one back."""
        done = threading.Event()
        answers: list[bytes] = []
        errors: list[StoreError] = []

        def ended(error: StoreError | None) -> None:
            if error is not None:
                errors.append(error)
            done.set()

        stream = Stream(answers.append, ended)
        self.open(path, metadata, stream)
        self.send(stream, message, last=True)
        if not done.wait(seconds):
            self.fail(f"no answer within {seconds:.1f} s")
        if errors:
            raise errors[0]
        if not answers:
            raise LostError(f"{self.endpoint.url}: an answer without a message")
        return answers[0]

    def abandon(self, stream: Stream) -> None:
        """End a call from this side."""
        with self._lock:
            self._streams.pop(stream.id, None)
            with suppress(h2.exceptions.ProtocolError, StoreError):
                self._http.reset_stream(stream.id, 8)  # CANCEL, RFC 9113 section 7
                self._flush()

    def fail(self, reason: str) -> None:
        """Give the connection up; every call under way ends with LostError."""
        with self._lock:
            error = self._lost(reason)
            streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.end(error)

    def close(self) -> None:
        self.fail("closed")
        if threading.current_thread() is not self._reader:
            self._reader.join()

    # ---- the protocol; all of it under the lock ---------------------------

    def _begin(self) -> None:
        self._http.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            },
        )
        self._http.initiate_connection()
        self._http.increment_flow_control_window(_WINDOW - 65535)
        self._flush()

    def _check(self) -> None:
        if self._error is not None:
            raise UnreachableError(str(self._error))

    def _push(self, stream: Stream) -> None:
        """Send as much of a stream as the member takes now."""
        with suppress(h2.exceptions.StreamClosedError):  # it wants no more, and will say why
            while stream.unsent:
                window = self._http.local_flow_control_window(stream.id)
                room = min(window, self._http.max_outbound_frame_size)
                if room <= 0:
                    return
                part, stream.unsent = stream.unsent[:room], stream.unsent[room:]
                last = stream.ends and not stream.unsent
                self._http.send_data(stream.id, part, end_stream=last)

    def _flush(self) -> None:
        data = memoryview(self._http.data_to_send())
        deadline = time.monotonic() + ANSWER_SECONDS
        while data:
            try:
                data = data[self._socket.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                left = deadline - time.monotonic()
                if left <= 0 or not _poll(self._socket, select.POLLOUT, left):
                    raise self._lost("takes no data") from None
            except OSError as error:
                raise self._lost(self._words(error)) from error

    def _words(self, error: Exception) -> str:
        """What ends a connection. TLS 1.3 looks at a client's certificate when the client
        has done its part of the handshake (RFC 8446, 4.4.2.4)."""
        if isinstance(error, ssl.SSLError) and not self._heard:
            return f"does not take the certificate of store.cert ({error.reason or error})"
        strerror = getattr(error, "strerror", None)
        return str(strerror or error) or type(error).__name__

    def _lost(self, reason: str) -> StoreError:
        """Note that the connection is gone; the reading thread ends the calls."""
        if self._error is None:
            self._error = LostError(f"{self.endpoint.url}: {reason}")
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        return self._error

    def _read(self) -> None:
        """What the thread does: until the connection is gone."""
        try:
            while self._error is None:
                if not self._pending() and not _poll(self._socket, select.POLLIN, IDLE_SECONDS / 2):
                    self._keep_alive()
                    continue
                self._receive()
        except (OSError, StoreError, h2.exceptions.ProtocolError) as error:
            self.fail(self._words(error))
        finally:
            self.fail("closed")
            self._socket.close()

    def _pending(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _receive(self) -> None:
        with self._lock:
            try:
                data = self._socket.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                raise LostError("the member closed the connection")
            self._heard_at, self._pinged, self._heard = time.monotonic(), False, True
            calls = [call for event in self._http.receive_data(data) for call in self._take(event)]
            self._flush()
        for call in calls:  # without the lock: a callback may do what it likes
            call()

    def _take(self, event: h2.events.Event) -> list[Callable[[], None]]:
        """What is to be called because of an event."""
        if isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            for waiting in [one for one in self._streams.values() if one.unsent]:
                self._push(waiting)
            return []
        if isinstance(event, h2.events.ConnectionTerminated):
            raise LostError("the member ended the connection")
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, h2.events.DataReceived):
            size, data = event.flow_controlled_length, event.data or b""
            self._http.acknowledge_received_data(size or 0, event.stream_id or 0)
            return [lambda: stream.data(data)] if stream else []
        if stream is None:
            return []
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            headers = {str(name): str(value) for name, value in event.headers or ()}
            return [lambda: stream.headers(headers)]
        if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            del self._streams[stream.id]
            return [stream.end]
        return []

    def _keep_alive(self) -> None:
        """After a silence: ask whether the member is there, while calls wait."""
        with self._lock:
            silent = time.monotonic() - self._heard_at
            if not self._streams:
                self._heard_at = time.monotonic()
            elif self._pinged and silent > IDLE_SECONDS + ANSWER_SECONDS:
                raise LostError(f"silent for {silent:.0f} s")
            elif not self._pinged and silent >= IDLE_SECONDS:
                self._pinged = True
                self._http.ping(b"heddle--")
                self._flush()


def _connect(endpoint: Member, tls: ssl.SSLContext | None) -> socket.socket:
    try:
        plain = socket.create_connection((endpoint.host, endpoint.port), CONNECT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None or not endpoint.tls:
            plain.setblocking(False)
            return plain
        wrapped = tls.wrap_socket(plain, server_hostname=endpoint.host)
    except ssl.SSLCertVerificationError as error:
        raise UntrustedError(
            f"{endpoint.url}: its certificate is not trusted: {error.verify_message}"
        ) from error
    except OSError as error:  # other TLS errors are of this kind, too
        raise UnreachableError(f"{endpoint.url}: {error.strerror or error}") from error
    wrapped.setblocking(False)
    return wrapped


def _poll(watched: socket.socket, events: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(watched.fileno(), events)
    return bool(poll.poll(seconds * 1000))

"""Carry one HTTP exchange over a socket within a wall-clock limit: look-up, connect, TLS, request and the whole answer.

It plugs into `requests` as an adapter and stands in for urllib3, whose layers would each have to be switched off here:
its timeouts restart with every byte (11 s late on dripping headers), its URLs are normalised, it sends again by itself,
its log lines hold the query, and it does not tell whether a byte of the request has left. Parsing an answer is left to
answers.py.

    DeadlineAdapter      requests' side: takes or opens a Wire, exchanges, keeps the Wire for the next call
      Wire               a connected socket; each wait is bounded by the time its Call has left
      Call               one call's clock, what may still come in, and whether a byte has left
"""

from __future__ import annotations

import errno
import http.client
import io
import ipaddress
import queue
import re
import select
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import requests
import urllib3
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from mifos_gateway.answers import Answer, read_answer, too_large
from mifos_gateway.errors import GatewayError, InvalidCall, MifosTimeout, MifosUnavailable, Sent

TRANSPORT_ERRORS = (OSError, http.client.HTTPException, zlib.error, urllib3.exceptions.HTTPError)
"""All that can go wrong beneath us; requests' own exceptions are OSErrors. What else surfaces is a mistake of ours."""

_IDLE_SECONDS = 15.0  # Tomcat drops an idle connection after 20 s; a request that meets the drop is "perhaps done"
_LOOK_UPS_AT_ONCE = 8
_OVERHEAD_BYTES = 1 << 20  # headers, chunk sizes and trailers of an answer, on top of the body's limit
_ONE_WRITE = 1 << 16  # a body up to this size leaves together with its headers

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\u0100-\U0010ffff]*")
_TARGET = re.compile(r"/[\x21-\x7e]*")


class DeadlinePassed(TimeoutError):
    """The call has no time left; like the timeouts of sockets it carries no errno."""


class Call:
    """One call: the time it has left, the bytes it may still take in, and whether any byte of its request has left."""

    __slots__ = ("_ends_at", "_monotonic", "_room", "sent", "timeout")

    def __init__(self, timeout: float, *, room: int, monotonic: Callable[[], float]) -> None:
        self.timeout = timeout
        self.sent: Sent = False
        self._room = room
        self._monotonic = monotonic
        self._ends_at = monotonic() + timeout

    def time_left(self) -> float:
        """Seconds until the limit, more than 0, or DeadlinePassed."""
        left = self._ends_at - self._monotonic()
        if left <= 0:
            raise DeadlinePassed
        return left

    def take_in(self, count: int) -> None:
        """Account for bytes received, framing included: whatever a peer streams at us comes to an end here."""
        self._room -= count
        if self._room < 0:
            too_large()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where MIFOS listens: the scheme, host and port of the base URL."""

    scheme: Literal["http", "https"]
    host: str  # ASCII; an IPv6 address without brackets
    port: int

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    @property
    def is_address(self) -> bool:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Resolver:
    """Look names up in threads, because getaddrinfo cannot be interrupted; only so many may hang at once."""

    def __init__(self, *, at_once: int = _LOOK_UPS_AT_ONCE) -> None:
        self._slots = threading.BoundedSemaphore(at_once)

    def look_up(self, origin: Origin, call: Call) -> list[Any]:
        if origin.is_address:  # needs no name server, so it cannot hang
            return socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        if not self._slots.acquire(timeout=call.time_left()):
            raise DeadlinePassed
        answers: queue.SimpleQueue[list[Any] | BaseException] = queue.SimpleQueue()
        thread = threading.Thread(target=self._ask, args=(origin, answers), name="mifos-look-up", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had
            self._slots.release()
            raise OSError(errno.EAGAIN, "no thread for the name look-up") from error
        try:
            answer = answers.get(timeout=call.time_left())
        except queue.Empty:
            raise DeadlinePassed from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _ask(self, origin: Origin, answers: queue.SimpleQueue[list[Any] | BaseException]) -> None:
        try:
            answers.put(socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM))
        except BaseException as error:  # handed to the caller, who may be gone
            answers.put(error)
        finally:
            self._slots.release()


def connect(addresses: list[Any], call: Call) -> socket.socket:
    """A socket to the first address that answers; each gets an equal share of the time left when its turn comes."""
    failure: OSError = OSError(errno.EADDRNOTAVAIL, "the name has no address")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        share = call.time_left() / (len(addresses) - position)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(share)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise failure


def start_tls(sock: socket.socket, context: ssl.SSLContext, origin: Origin, call: Call) -> ssl.SSLSocket:
    """The handshake; `sock` is closed if it fails."""
    try:
        tls = context.wrap_socket(sock, server_hostname=origin.host.rstrip("."), do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        tls.settimeout(call.time_left())  # bounds the whole handshake, not each of its reads
        tls.do_handshake()
    except BaseException:
        tls.close()
        raise
    return tls


class Wire(io.RawIOBase):
    """A connected socket between us and MIFOS. It belongs to one call at a time, and that call's clock bounds it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._socket = sock
        self._reader = _LastingReader(self)
        self._call: Call | None = None
        self.idle_since = 0.0

    def begin(self, call: Call) -> None:
        self._call = call

    def rest(self, now: float) -> None:
        self._call = None
        self.idle_since = now

    @property
    def is_fresh(self) -> bool:
        """Nothing has come in since the last answer: neither the peer's goodbye nor bytes that nobody asked for."""
        if self._reader.peek(1):  # does not touch the socket while no call is on
            return False
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._call is None:
            return None
        self._socket.settimeout(self._call.time_left())
        count = self._socket.recv_into(buffer)
        self._call.take_in(count)
        return count

    def send_all(self, data: memoryview) -> None:
        call = self._call
        assert call is not None
        encrypted = isinstance(self._socket, ssl.SSLSocket)
        while data:
            self._socket.settimeout(call.time_left())
            if encrypted:  # a failed write may have handed some records to the kernel
                call.sent = "unknown"
            count = self._socket.send(data)
            call.sent = "unknown"
            data = data[count:]

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks of a socket."""
        return self._reader

    def abort(self) -> None:
        """Close at once and drop what the kernel has not delivered yet, so that nothing is carried out afterwards."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        super().close()
        self._socket.close()


class _LastingReader(io.BufferedReader):
    """Survives http.client, which closes its file after each answer, so that stray bytes behind one can be seen."""

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass


class DeadlineAdapter(BaseAdapter):
    """requests' transport to one origin: `timeout` bounds the whole call, the request is sent once, and byte for byte.

    The answer's body has been read whole and decoded; `Content-Encoding` and `Content-Length` are dropped from an
    answer that was decoded, so that its headers describe its content. `fixed_headers` go out with every request and
    never show up in a `PreparedRequest`, which people log.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        fixed_headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
        pool_size: int,
        max_response_bytes: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._origin = origin
        self._fixed_headers = b"".join(_header_line(*item) for item in fixed_headers.items())
        self._tls = tls
        self._pool_size = pool_size
        self._limit = max_response_bytes
        self._monotonic = monotonic
        self._resolver = Resolver()
        self._idle: deque[Wire] = deque()
        self._closed = False

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        call = Call(timeout, room=self._limit + _OVERHEAD_BYTES, monotonic=self._monotonic)
        head = self._head(request)
        try:
            wire = self._take_idle() or self._open(call)
            try:
                answer = self._exchange(wire, head, request, call)
            except BaseException:
                wire.abort()
                raise
        except TRANSPORT_ERRORS as error:
            raise as_gateway_error(error, origin=self._origin, call=call) from error
        self._put_back(wire, keep=not answer.closes)
        return _response(request, answer)

    def close(self) -> None:
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _open(self, call: Call) -> Wire:
        sock = connect(self._resolver.look_up(self._origin, call), call)
        return Wire(sock if self._tls is None else start_tls(sock, self._tls, self._origin, call))

    def _exchange(self, wire: Wire, head: memoryview, request: requests.PreparedRequest, call: Call) -> Answer:
        wire.begin(call)
        refused: OSError | None = None
        try:
            _send_request(wire, head, request.body)
        except (BrokenPipeError, ConnectionResetError) as error:
            if call.sent is False:
                raise
            refused = error  # MIFOS may have answered, 413 say, and hung up on the rest of the body
        try:
            answer = read_answer(wire, str(request.method), limit=self._limit, tick=call.time_left)
        except TRANSPORT_ERRORS as error:
            if refused is None or _is_deadline(error):
                raise
            raise refused from error
        return answer if refused is None else replace(answer, closes=True)

    def _take_idle(self) -> Wire | None:
        """The connection used last that is still good; nothing is sent on it before that is known."""
        with suppress(IndexError):
            while True:
                wire = self._idle.pop()
                if self._monotonic() - wire.idle_since < _IDLE_SECONDS and wire.is_fresh:
                    return wire
                wire.close()
        return None

    def _put_back(self, wire: Wire, *, keep: bool) -> None:
        now = self._monotonic()
        if not keep or len(self._idle) >= self._pool_size:
            wire.close()
        else:
            wire.rest(now)
            self._idle.append(wire)
        if self._closed:
            self.close()
        self._close_outworn(now)

    def _close_outworn(self, now: float) -> None:
        with suppress(IndexError):
            while now - self._idle[0].idle_since >= _IDLE_SECONDS:
                self._idle.popleft().close()

    def _head(self, request: requests.PreparedRequest) -> memoryview:
        """Request line and headers. As a memoryview, which hides the credentials when a traceback shows its locals."""
        method, target = str(request.method), str(request.url).removeprefix(str(self._origin))
        if not _METHOD.fullmatch(method):
            raise InvalidCall("The method holds characters that no method has.")
        if not _TARGET.fullmatch(target):
            raise InvalidCall("The target holds characters that must be percent-encoded.")
        lines = [_header_line(name, value) for name, value in request.headers.items()]
        return memoryview(
            b"".join((f"{method} {target} HTTP/1.1\r\n".encode("ascii"), self._fixed_headers, *lines, b"\r\n"))
        )


def as_gateway_error(error: Exception, *, origin: Origin, call: Call) -> GatewayError:
    """Say in our terms what went wrong; names the host, never the path or query."""
    if _is_deadline(error):
        return MifosTimeout(f"MIFOS ({origin}) did not answer within {call.timeout:g} s.", sent=call.sent)
    return MifosUnavailable(f"MIFOS ({origin}) is not available: {_reason(error)}.", sent=call.sent)


def _is_deadline(error: Exception) -> bool:
    # The kernel's own ETIMEDOUT is a TimeoutError too, but a peer's silence at the level of TCP, not our limit.
    return isinstance(error, TimeoutError) and error.errno is None


def _reason(error: Exception) -> str:
    match error:
        case socket.gaierror():
            return f"name look-up failed ({error.strerror})"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted ({error.verify_message})"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error.strerror})"
        case OSError(strerror=str(text)):
            return text
        case zlib.error():
            return "the answer's compression is broken"
    return f"the exchange broke off ({type(error).__name__})"


def _send_request(wire: Wire, head: memoryview, body: Any) -> None:
    if body and len(body) <= _ONE_WRITE:
        wire.send_all(memoryview(bytes(head) + body))
        return
    wire.send_all(head)
    if body:
        wire.send_all(memoryview(body))


def _response(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    response.reason = answer.reason
    response.headers = CaseInsensitiveDict(answer.headers)
    response.encoding = get_encoding_from_headers(response.headers)
    response.url = str(request.url)
    response.request = request
    response.raw = io.BytesIO(answer.content)
    return response


def _header_line(name: str, value: str) -> bytes:
    if not _METHOD.fullmatch(name):
        raise InvalidCall(f"The header name {name!r} holds characters that no header name has.")
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise InvalidCall(f"The header {name} holds characters that no header value has.")
    return f"{name}: {value}\r\n".encode("latin-1")

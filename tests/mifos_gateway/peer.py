"""A scripted server on loopback for the tests of the client: it sees the raw bytes, and misbehaves as told."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mifos_gateway.client import Credentials, MifosClient, MifosConfig

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
DRIP_SECONDS = 0.1


@dataclass
class Request:
    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}


class Connection:
    """One connection, from the peer's side."""

    def __init__(self, peer: Peer, sock: socket.socket) -> None:
        self.peer = peer
        self.sock = sock
        self._pending = b""

    def requests(self) -> Iterator[Request]:
        while request := self.request():
            yield request

    def request(self) -> Request | None:
        while b"\r\n\r\n" not in self._pending:
            if not (data := self.sock.recv(65536)):
                return None
            self._pending += data
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        request = Request(head, b"")
        length = int(request.headers.get("content-length", 0))
        while len(self._pending) < length:
            if not (data := self.sock.recv(65536)):
                return None
            self._pending += data
        request.body, self._pending = self._pending[:length], self._pending[length:]
        self.peer.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, size: int = 1) -> None:
        """`data`, a few bytes at a time, until all is sent or the client hangs up."""
        for start in range(0, len(data), size):
            self.send(data[start : start + size])
            if self.hung_up(DRIP_SECONDS):
                return

    def hung_up(self, seconds: float) -> bool:
        """Wait so long for the client to close the connection; when it does, the time is noted."""
        self.sock.settimeout(seconds)
        try:
            closed = self.sock.recv(65536) == b""
        except TimeoutError:
            return False
        except OSError:
            closed = True
        finally:
            self.sock.settimeout(None)
        if closed:
            self.note_hang_up()
        return closed

    def note_hang_up(self) -> None:
        if not self.peer.hung_up.is_set():
            self.peer.hung_up_at = time.monotonic()
            self.peer.hung_up.set()

    def stay(self) -> None:
        """Say nothing until the client hangs up or the test ends."""
        while not self.peer.stopped.is_set() and not self.hung_up(0.05):
            pass


Script = Callable[[Connection], None]


def answer(data: bytes = OK) -> Script:
    """The same answer to every request, on as few connections as the client wants."""

    def script(connection: Connection) -> None:
        for _ in connection.requests():
            connection.send(data)

    return script


class Peer:
    """Runs one thread for each connection; `script` says what it does."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.tls = tls
        self.requests: list[Request] = []
        self.connections = 0
        self.hung_up = threading.Event()
        self.hung_up_at = 0.0
        self.stopped = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/fineract-provider/api/v1"

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="peer", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.stopped.is_set():
                sock.close()
                return
            self.connections += 1
            self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        connection = Connection(self, sock)
        try:
            if self.tls is not None:
                connection.sock = self.tls.wrap_socket(sock, server_side=True)
                self._sockets.append(connection.sock)
            self.script(connection)
        except OSError:
            connection.note_hang_up()
        finally:
            connection.sock.close()

    def close(self) -> None:
        self.stopped.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()  # wakes accept()
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)
            assert not thread.is_alive()


def config(url: str, **options: object) -> MifosConfig:
    settings: dict[str, object] = {
        "base_url": url,
        "tenant_id": "default",
        "maker": Credentials("maker", "maker-pässword"),
        "checker": Credentials("checker", "checker-secret"),
    }
    return MifosConfig(**(settings | options))  # type: ignore[arg-type]


@contextlib.contextmanager
def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, **options: object
) -> Iterator[tuple[Peer, MifosClient]]:
    """A peer that runs `script`, and a client that speaks to it."""
    peer = Peer(script, tls=tls)
    client = MifosClient(config(**({"url": peer.url} | options)))  # type: ignore[arg-type]
    try:
        yield peer, client
    finally:
        client.close()
        peer.close()

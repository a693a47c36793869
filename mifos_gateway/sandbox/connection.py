"""Requests off the wire and answers onto it, also those that are wrong on purpose."""

import gzip
import socket
import struct
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .call import Spoil
from .faults import Trouble
from .messages import Answer, Request

if TYPE_CHECKING:
    from .server import Sandbox

LARGEST_BODY = 64 * 1024 * 1024
SMALLEST_GZIP = 1024
HANG_UP_SECONDS = 2
REASONS = {status.value: status.phrase for status in HTTPStatus}


class Server(ThreadingHTTPServer):
    request_queue_size = 1024  # hundreds of callers at once are the point
    daemon_threads = True

    def __init__(self, host: str, port: int, sandbox: "Sandbox") -> None:
        self.sandbox = sandbox
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Connection)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the host's full name, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self.connections += 1
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def hang_up(self) -> None:
        """Cuts every connection, and waits a moment for their threads to see it."""
        with self._changed:
            for connection in self._open:
                with suppress(OSError):  # gone already
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, HANG_UP_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # callers that went away are the daily bread here
            super().handle_error(request, client_address)


class Connection(BaseHTTPRequestHandler):
    """One connection."""

    raw_requestline: bytes
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def serve(self) -> None:
        request = self._read()
        if request is None:
            return
        sandbox = self.server.sandbox
        if not sandbox.settings.keep_alive:
            self.close_connection = True
        if request.path.startswith("/__"):
            self._send(request, sandbox.control(request))
            return
        with sandbox.log.running(request) as row:
            trouble = sandbox.faults.pick(request)
            row["fault"] = trouble.fault.mode if trouble else None
            answer = self._misbehave(request, trouble) if trouble else sandbox.api.handle(request)
        if answer is not None:  # sent when it no longer counts as running, so that its caller finds it gone from there
            self._send(request, answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve

    def handle_one_request(self) -> None:
        self.connection.settimeout(self.server.sandbox.settings.idle_seconds or None)
        super().handle_one_request()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `GET /__requests` has it all."""

    def end_headers(self) -> None:
        self.send_header("X-Mifos-Sandbox", "1")  # for what http.server answers by itself
        super().end_headers()

    # In

    def _read(self) -> Request | None:
        self.connection.settimeout(None)
        body = self._read_body()
        if body is None:
            return None
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        # Not self.path: http.server folds leading slashes there.
        target = self.raw_requestline.decode("latin-1").split()[1]
        return Request(self.command, target, headers, body)

    def _read_body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            try:
                return self._read_chunks()
            except ValueError:
                self.close_connection = True
                self.send_error(HTTPStatus.BAD_REQUEST)
                return None
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self.close_connection = True
            self.send_error(HTTPStatus.BAD_REQUEST if not length.isdecimal() else HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # the caller broke off: nothing was asked
            self.close_connection = True
            return None
        return body

    def _read_chunks(self) -> bytes | None:
        body = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0] or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
            if len(body) > LARGEST_BODY:
                self.close_connection = True
                return None
        while self.rfile.readline().strip():
            pass  # trailers
        return bytes(body)

    # Out

    def _send(self, request: Request, answer: Answer) -> None:
        head, body = self._wire(request, answer)
        self.connection.sendall(head + body)

    def _wire(self, request: Request, answer: Answer) -> tuple[bytes, bytes]:
        body, headers = answer.body, [("X-Mifos-Sandbox", "1"), *answer.headers]
        if answer.content_type and (body or answer.status != 304):
            headers.append(("Content-Type", answer.content_type))
        if len(body) >= SMALLEST_GZIP and "gzip" in request.headers.get("accept-encoding", "").lower():
            body = gzip.compress(body, 5, mtime=0)
            headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
        if answer.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in _parts(body)) + b"0\r\n\r\n"
        elif answer.status not in (204, 304):
            headers.append(("Content-Length", str(len(body))))
        if self.close_connection:
            headers.append(("Connection", "close"))
        reason = REASONS.get(answer.status, "Unknown")
        lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1"), b"" if request.method == "HEAD" else body

    # Wrong on purpose

    def _misbehave(self, request: Request, trouble: Trouble) -> Answer | None:
        """The answer to send, or None where there is none or it went its own way."""
        fault, api = trouble.fault, self.server.sandbox.api
        spoil = Spoil(crash=fault.after == "crash", burn=fault.answer() if fault.after == "burn" else None)
        done = None if fault.after == "nothing" else api.handle(request, spoil)
        if fault.mode in ("error", "rate_limit"):
            return done if done and fault.after == "burn" else fault.answer()
        if fault.mode == "slow":
            trouble.wait()
            return done or api.handle(request)
        if fault.mode == "hang":
            trouble.wait(self._caller_has_gone)
            self.close_connection = True
        elif fault.mode == "drip":
            self._drip(request, done or api.handle(request), trouble)
        elif fault.mode == "reset":
            self._reset(request, done or (api.handle(request) if fault.where else None), fault.where)
        return None

    def _drip(self, request: Request, answer: Answer, trouble: Trouble) -> None:
        head, body = self._wire(request, answer)
        at_once, slowly = (b"", head + body) if trouble.fault.where == "headers" else (head, body)
        self.connection.sendall(at_once)
        for sent in range(len(slowly)):
            self.connection.sendall(slowly[sent : sent + 1])
            if not trouble.wait():
                self.connection.sendall(slowly[sent + 1 :])
                return

    def _reset(self, request: Request, answer: Answer | None, where: str | None) -> None:
        if answer is not None and where is not None:
            head, body = self._wire(request, answer)
            self.connection.sendall(head[: len(head) // 2] if where == "headers" else head + body[: len(body) // 2])
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _caller_has_gone(self) -> bool:
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


def _parts(body: bytes, size: int = 16 * 1024) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]

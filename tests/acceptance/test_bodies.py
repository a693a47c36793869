"""A body goes through gunicorn and the gateway to MIFOS byte for byte, whatever its method, framing and type."""

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.gateway import Gateway
from tests.mifos_gateway.peer import OK, Connection, Peer

BODY = b"\x00\xff\r\n\r\n0\r\n--x\r\n{not json"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def answer(connection: Connection) -> None:
    for request in connection.requests():
        is_head = request.line.startswith(b"HEAD")
        connection.send(OK.removesuffix(b"{}") if is_head else OK)


@pytest.fixture
def mifos() -> Iterator[Peer]:
    peer = Peer(answer)
    yield peer
    peer.close()


@pytest.fixture
def send(start_gateway: Callable[..., Gateway], mifos: Peer) -> Callable[..., bytes]:
    """Writes a request as it is to a gateway before that MIFOS, and gives the answer's first line."""
    gateway = start_gateway(MIFOS_BASE_URL=mifos.url, WEB_CONCURRENCY="1")

    def send_one(method: str, headers: bytes, body: bytes) -> bytes:
        head = f"{method} /api/v1/mifos/maker/clients HTTP/1.1\r\nHost: x\r\nAuthorization: Token {gateway.token}\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            connection.sendall(head.encode() + headers + b"Connection: close\r\n\r\n" + body)
            return connection.makefile("rb").readline()

    return send_one


def framed(body: bytes) -> tuple[bytes, bytes]:
    return b"Content-Length: %d\r\n" % len(body), body


def chunked(body: bytes) -> tuple[bytes, bytes]:
    return CHUNKED, b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:])


def test_a_body_goes_on_whatever_the_method_the_framing_and_the_type(send, mifos):
    received = {}
    for method in ("GET", "HEAD", "DELETE", "POST", "PUT", "PATCH"):
        for frame in (framed, chunked):
            for content_type in (b"", b"Content-Type: multipart/form-data; boundary=x\r\n"):
                length, body = frame(BODY)
                line = send(method, content_type + length, body)
                got = mifos.requests[-1]
                type_sent = got.headers.get("content-type", "")
                received[method, frame.__name__, content_type] = (
                    line[9:12],
                    got.body,
                    bool(type_sent) == bool(content_type),
                )

    assert {case: got for case, got in received.items() if got != (b"200", BODY, True)} == {}
    assert len(mifos.requests) == len(received)

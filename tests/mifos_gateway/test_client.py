"""What goes out is one request, byte for byte; what comes back is whole, or one of our errors."""

from __future__ import annotations

import base64
import contextlib
import gc
import gzip
import http.client
import inspect
import logging
import os
import socket
import ssl
import threading
import traceback
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import requests
import trustme
import urllib3.exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mifos_gateway import deadline
from mifos_gateway.client import Credentials, MifosClient, api_path
from mifos_gateway.deadline import TRANSPORT_ERRORS, Call, Origin, as_gateway_error
from mifos_gateway.errors import GatewayError, InvalidCall, MifosTimeout, MifosUnavailable, ResponseTooLarge
from tests.mifos_gateway.peer import OK, Connection, Peer, Script, answer, config, serving

ROOT = "/fineract-provider/api/v1"
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WAIT = 10.0


def get(client: MifosClient, target: str = "clients", **options: object) -> requests.Response:
    return client.send("maker", "GET", target, timeout=WAIT, **options)  # type: ignore[arg-type]


# What goes out


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("clients", "/api/v1/clients"),
        ("/clients", "/api/v1/clients"),
        ("clients/", "/api/v1/clients/"),
        ("/api/v1/clients", "/api/v1/clients"),
        ("api/v1/clients", "/api/v1/clients"),
        ("v1/clients", "/api/v1/clients"),
        ("/v1/clients", "/api/v1/clients"),
        ("v2/clients/search", "/api/v2/clients/search"),
        ("/api/v2/clients/search", "/api/v2/clients/search"),
        ("V2/clients/search", "/api/v2/clients/search"),
        ("v1things", "/api/v1/v1things"),
        ("apiary/v1", "/api/v1/apiary/v1"),
        ("api/v1things", "/api/v1/api/v1things"),
        ("v3/clients", "/api/v1/v3/clients"),
        ("v1/v1/clients", "/api/v1/v1/clients"),
        ("v1?x=1", "/api/v1?x=1"),
        ("clients?", "/api/v1/clients?"),
        ("clients?next=http://elsewhere/../x", "/api/v1/clients?next=http://elsewhere/../x"),
        ("clients/1:2/a..b/.hidden/...", "/api/v1/clients/1:2/a..b/.hidden/..."),
    ],
)
def test_a_target_is_a_path_below_the_api(target: str, path: str) -> None:
    assert api_path(target) == path


@pytest.mark.parametrize(
    "target",
    [
        "http://elsewhere/clients",
        "https://elsewhere",
        "HTTP:/elsewhere",
        "//elsewhere/clients",
        "clients 1",
        "clients\r\nHost: elsewhere",
        "clients\x00",
        "clients\x7f",
        "clients?name=\t",
        "clients#fragment",
        "clients/ä",
        "clients?name=ä",
        "..",
        "../admin",
        "clients/../../admin",
        "./clients",
        "clients/..",
        "clients/..;x=y/users",
        "clients/%2e%2E/users",
        "clients/%2e./users",
        "clients/..%2fusers",
        "clients/..%5cusers",
        "clients\\..\\users",
        "clients/%252e%252e/users",
    ],
)
def test_a_target_that_could_leave_the_api_is_refused(target: str) -> None:
    with pytest.raises(ValueError):
        api_path(target)


def test_a_refused_target_reaches_nobody() -> None:
    with serving(answer()) as (peer, client):
        with pytest.raises(InvalidCall) as caught:
            get(client, "clients/../users")
        assert (caught.value.sent, peer.connections) == (False, 0)


@pytest.mark.parametrize("suffix", ["", "/", "/api/v1", "/api/v1/", "/api", "/api/v2/"])
@pytest.mark.parametrize("context", ["", "/fineract-provider", "/a/b~c%7e"])
def test_the_base_url_may_end_in_the_api_or_not(context: str, suffix: str) -> None:
    with serving(answer()) as (peer, client):
        client = MifosClient(config(f"http://127.0.0.1:{peer.port}{context}{suffix}"))
        get(client, "clients?limit=1")
        client.close()
        assert peer.requests[0].line == f"GET {context}/api/v1/clients?limit=1 HTTP/1.1".encode()


@pytest.mark.parametrize(
    "url", ["", "mifos:8443", "ftp://mifos", "http://", "http://u:p@mifos", "http://mifos/?x=1", "http://mifos/a b"]
)
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        MifosClient(config(url))


@pytest.mark.parametrize(
    "target",
    [
        "clients/%7e%2c%7E?name=%20x&y=a%2fb&&z",
        "clients?a+b=c+d&empty=&=&?&/?",
        "clients?sqlSearch=display_name%20like%20%27%25a%25%27",
        "clients/a;b=c,d/(x)!$'*@:&=+",
        'clients?weird=<>"{}|^`\\[]',
        "clients?%zz=%",
        "clients?",
        "clients??",
        "clients/a.b/...",
    ],
)
def test_a_target_goes_out_byte_for_byte(target: str) -> None:
    with serving(answer()) as (peer, client):
        get(client, target)
        assert peer.requests[0].line == f"GET {ROOT}/{target} HTTP/1.1".encode()


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[Peer, MifosClient]]:
    with serving(answer()) as pair:
        yield pair


PATHS = st.text("abzAZ019-_~!$&'()*+,;=:@%/.\"<>^`{|}", max_size=40)
QUERIES = st.none() | st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, query=QUERIES)
def test_every_target_goes_out_byte_for_byte_or_not_at_all(
    echo: tuple[Peer, MifosClient], path: str, query: str | None
) -> None:
    peer, client = echo
    target = f"clients/{path}" + ("" if query is None else f"?{query}")
    peer.requests.clear()
    try:
        get(client, target)
    except InvalidCall:
        assert peer.requests == []
    else:
        assert [request.target for request in peer.requests] == [f"{ROOT}/{target}".encode()]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [None, b"", b"\x00\xff{}\r\n\r\n", b"x" * 300_000])
def test_a_body_goes_out_byte_for_byte(method: str, body: bytes | None) -> None:
    with serving(answer()) as (peer, client):
        client.send("maker", method, "clients", body=body, timeout=WAIT)
        [request] = peer.requests
        assert (request.line.split(b" ")[0], request.body) == (method.encode(), body or b"")


def test_a_get_without_a_body_declares_none() -> None:
    with serving(answer()) as (peer, client):
        get(client)
        assert not {"content-length", "transfer-encoding"} & peer.requests[0].headers.keys()


def test_a_request_says_who_we_are_and_nothing_else() -> None:
    with serving(answer()) as (peer, client):
        get(client)
        headers = peer.requests[0].headers
    assert headers.pop("user-agent").startswith("mifos-gateway/")
    assert headers == {
        "host": f"127.0.0.1:{peer.port}",
        "authorization": "Basic " + base64.b64encode("maker:maker-pässword".encode()).decode(),
        "fineract-platform-tenantid": "default",
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
    }


def test_the_checker_is_another_user() -> None:
    with serving(answer()) as (peer, client):
        client.send("checker", "GET", "clients", timeout=WAIT)
        assert (
            peer.requests[0].headers["authorization"] == "Basic " + base64.b64encode(b"checker:checker-secret").decode()
        )


def test_a_callers_headers_go_out() -> None:
    given_headers = {
        "Content-Type": "application/json; charset=utf-8",
        "accept": "text/csv",
        "If-None-Match": '"a", W/"b"',
        "If-Match": "*",
        "X-Request-ID": "abc",
        "X-Correlation-ID": "abc",
        "Idempotency-Key": "k" * 50,
        "X-Latin": "café",
    }
    with serving(answer()) as (peer, client):
        client.send("maker", "POST", "clients", headers=given_headers, body=b"{}", timeout=WAIT)
        sent = peer.requests[0].headers
    assert {name: sent[name.lower()] for name in given_headers} == given_headers


@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "Host", "Content-Length", "transfer-encoding", "Connection"]
)
def test_a_caller_cannot_set_who_we_are_nor_where_a_request_ends(name: str) -> None:
    with serving(answer()) as (peer, client):
        with pytest.raises(ValueError, match="not a caller's"):
            get(client, headers={name: "x"})
        assert peer.connections == 0


@pytest.mark.parametrize(
    ("name", "value"), [("X-A", "a\r\nX-B: b"), ("X-A", "a\n"), ("X-A", "€"), ("X A", "a"), ("", "a")]
)
def test_a_header_cannot_smuggle_another(name: str, value: str) -> None:
    with serving(answer()) as (peer, client):
        with pytest.raises(ValueError, match="header"):
            get(client, headers={name: value})
        assert peer.connections == 0


@pytest.mark.parametrize("method", ["", "GET /", "GE\r\nT"])
def test_a_method_cannot_smuggle_another_request(method: str) -> None:
    with serving(answer()) as (peer, client):
        with pytest.raises(ValueError, match="method"):
            client.send("maker", method, "clients", timeout=WAIT)
        assert peer.connections == 0


def test_a_tenant_cannot_smuggle_a_header() -> None:
    with pytest.raises(ValueError, match="TenantId"):
        MifosClient(config("http://mifos", tenant_id="default\r\nX: y"))


def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(answer()) as (peer, client):
        get(client)
        assert base64.b64decode(peer.requests[0].headers["authorization"].split()[1]).startswith(b"maker:")


# What comes back


def test_an_answer_is_a_response_of_requests() -> None:
    head = b'HTTP/1.1 201 Made\r\nContent-Type: application/json\r\nETag: "1"\r\nX: a\r\nx: b\r\nY: a\r\n  b\r\n'
    with serving(answer(head + b'Content-Length: 7\r\n\r\n{"a":1}')) as (_, client):
        response = client.send("maker", "POST", "clients", body=b"{}", timeout=WAIT)
    assert (response.status_code, response.reason, response.json(), response.ok) == (201, "Made", {"a": 1}, True)
    assert (response.headers["etag"], response.headers["x"], response.headers["Y"]) == ('"1"', "a, b", "a b")


GZIPPED = gzip.compress(b'{"a": 1}')
BARE_DEFLATE = zlib.compressobj(wbits=-15)
CODINGS = {
    "gzip": GZIPPED,
    "x-gzip": GZIPPED,
    "GZIP": GZIPPED,
    "gzip, gzip": gzip.compress(GZIPPED),
    "deflate, gzip": gzip.compress(zlib.compress(b'{"a": 1}')),
    "identity": b'{"a": 1}',
    "deflate": zlib.compress(b'{"a": 1}'),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_answer_is_decoded(coding: str) -> None:
    body = CODINGS[coding]
    with serving(
        answer(HEADERS + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (coding.encode(), len(body), body))
    ) as (
        _,
        client,
    ):
        assert get(client).json() == {"a": 1}


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"deflate", BARE_DEFLATE.compress(b'{"a": 1}') + BARE_DEFLATE.flush()),
        (b"gzip", gzip.compress(b'{"a":') + gzip.compress(b" 1}")),
        (b"gzip", GZIPPED + b"\x00" * 20),
    ],
    ids=["bare deflate", "two members", "padded"],  # gzip writes the time, and every process must name a test alike
)
def test_a_compressed_answer_of_an_unusual_kind_is_decoded(coding: bytes, body: bytes) -> None:
    head = HEADERS + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(body))
    with serving(answer(head + body)) as (_, client):
        assert get(client).json() == {"a": 1}


def test_the_headers_of_a_decoded_answer_describe_its_content() -> None:
    head = HEADERS + b"content-encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(GZIPPED)
    with serving(answer(head + GZIPPED)) as (_, client):
        assert set(get(client).headers) == {"Content-Type"}


def test_a_coding_that_is_not_ours_stays_with_its_header() -> None:
    with serving(answer(HEADERS + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc")) as (_, client):
        response = get(client)
    assert (response.content, response.headers["content-encoding"]) == (b"abc", "br")


def test_a_chunked_answer_is_joined_and_the_connection_kept() -> None:
    chunked = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
    with serving(answer(chunked)) as (peer, client):
        assert [get(client).content for _ in range(3)] == [b"abcde"] * 3
        assert peer.connections == 1


def test_an_answer_may_end_with_its_connection() -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(HEADERS + b"\r\nto the end")

    with serving(script) as (_, client):
        assert get(client).content == b"to the end"


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 10\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", HEADERS + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_an_answer_without_a_body_has_none(method: str, data: bytes) -> None:
    with serving(answer(data)) as (peer, client):
        for _ in range(2):
            assert client.send("maker", method, "clients", timeout=WAIT).content == b""
        assert peer.connections == 1


@pytest.mark.parametrize("data", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"])
def test_what_comes_before_the_answer_is_not_the_answer(data: bytes) -> None:
    with serving(answer(data + OK)) as (peer, client):
        assert [get(client).status_code for _ in range(2)] == [200, 200]
        assert peer.connections == 1


@pytest.mark.parametrize("location", [b"/elsewhere", b"http://127.0.0.1:9/", b"http://[", b"\xff\xfe"])
def test_a_redirect_is_an_answer_like_any_other(location: bytes) -> None:
    with serving(answer(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n")) as (
        peer,
        client,
    ):
        assert get(client).status_code == 302
        assert len(peer.requests) == 1


def test_a_401_is_not_tried_again() -> None:
    refusal = b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
    with serving(answer(refusal)) as (peer, client):
        assert get(client).status_code == 401
        assert len(peer.requests) == 1


@pytest.mark.parametrize("retry_after", [b"", b"Retry-After: 0\r\n"])
@pytest.mark.parametrize("status", [b"429 Slow", b"503 Down", b"413 Big"])
def test_a_failure_is_not_tried_again(status: bytes, retry_after: bytes) -> None:
    with serving(answer(b"HTTP/1.1 " + status + b"\r\n" + retry_after + b"Content-Length: 0\r\n\r\n")) as (
        peer,
        client,
    ):
        get(client)
        assert len(peer.requests) == 1


def test_cookies_are_neither_kept_nor_sent() -> None:
    data = HEADERS + b"Set-Cookie: JSESSIONID=1; Path=/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    with serving(answer(data)) as (peer, client):
        assert not get(client).cookies
        get(client)
        assert "cookie" not in peer.requests[1].headers


# Limits


@pytest.mark.parametrize(
    "data",
    [
        HEADERS + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001,
        HEADERS + b"Transfer-Encoding: chunked\r\n\r\n" + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501,
        HEADERS + b"Content-Encoding: gzip\r\nContent-Length: 35\r\n\r\n" + gzip.compress(b"x" * 1001),
        HEADERS + b"Content-Length: 35\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 2_000_000)[:35],
        HEADERS + b"\r\n" + b"x" * 1001,
    ],
)
def test_more_than_the_limit_is_too_large(data: bytes) -> None:
    data = data.replace(b"Content-Length: 35", b"Content-Length: %d" % len(data.partition(b"\r\n\r\n")[2]))
    with serving(answer(data), max_response_bytes=1000) as (peer, client):
        with pytest.raises(ResponseTooLarge) as caught:
            get(client)
        assert caught.value.sent == "unknown"
        assert peer.hung_up.wait(WAIT)


def test_the_limit_itself_is_not_too_large() -> None:
    data = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"
    with serving(answer(data), max_response_bytes=1000) as (_, client):
        assert len(get(client).content) == 1000


def test_a_declared_size_over_the_limit_is_refused_before_the_body_comes() -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(HEADERS + b"Content-Length: 1001\r\n\r\n")
        connection.stay()

    with serving(script, max_response_bytes=1000) as (peer, client):
        with pytest.raises(ResponseTooLarge):
            get(client)
        assert peer.hung_up.wait(WAIT)


@pytest.mark.parametrize(
    "endless", [b"-1\r\n" + b"x" * 65536, b"1;" + b"x" * 60_000 + b"\r\nx\r\n", b"0\r\n" + b"T: t\r\n" * 10_000]
)
def test_framing_cannot_go_round_the_limit(endless: bytes) -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(HEADERS + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.send(endless)

    with serving(script, max_response_bytes=1000) as (_, client), pytest.raises(ResponseTooLarge):
        get(client)


# What breaks

CHUNKED = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "nothing": b"",
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "binary": os.urandom(200).replace(b"\n", b"") + b"\r\n",
    "half a status line": b"HTTP/1.1 2",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "an impossible status": b"HTTP/1.1 99 Low\r\n\r\n",
    "another protocol": b"HTTP/2 200 OK\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    "a line too long": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
    "a body too short": HEADERS + b"Content-Length: 10\r\n\r\nabc",
    "no body where one is due": HEADERS + b"Content-Length: 10\r\n\r\n",
    "two lengths": HEADERS + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "a negative length": HEADERS + b"Content-Length: -1\r\n\r\nabc",
    "a length of letters": HEADERS + b"Content-Length: abc\r\n\r\nabc",
    "a length too long to read": HEADERS + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc",
    "another transfer encoding": HEADERS + b"Transfer-Encoding: gzip, chunked\r\n\r\nabc",
    "a chunk of letters": CHUNKED + b"xyz\r\nabc\r\n",
    "a chunk of negative size": CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n",
    "a chunk too short": CHUNKED + b"a\r\nabc",
    "no last chunk": CHUNKED + b"3\r\nabc\r\n",
    "bad gzip": HEADERS + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "half a gzip": HEADERS + b"Content-Encoding: gzip\r\nContent-Length: 15\r\n\r\n" + GZIPPED[:15],
    "half a second gzip": HEADERS + b"Content-Encoding: gzip\r\n\r\n" + GZIPPED + GZIPPED[:15],
    "gzip with a bad sum": HEADERS + b"Content-Encoding: gzip\r\n\r\n" + GZIPPED[:-8] + b"\x00" * 8,
    "bad deflate": HEADERS + b"Content-Encoding: deflate\r\n\r\n\xff\xff\xff",
}


def says(data: bytes) -> Script:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(data)

    return script


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_answer_is_unavailable_and_perhaps_done(way: str) -> None:
    with serving(says(BROKEN[way])) as (peer, client):
        with pytest.raises(MifosUnavailable) as caught:
            get(client)
        assert (caught.value.sent, len(peer.requests), peer.connections) == ("unknown", 1, 1)


def resets(connection: Connection) -> None:
    connection.request()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def test_a_reset_is_unavailable_and_perhaps_done() -> None:
    with serving(resets) as (peer, client):
        with pytest.raises(MifosUnavailable, match="reset") as caught:
            get(client)
        assert (caught.value.sent, len(peer.requests)) == ("unknown", 1)


def test_a_refused_connection_is_unavailable_and_nothing_was_sent() -> None:
    with contextlib.closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        client = MifosClient(config(f"http://127.0.0.1:{bound.getsockname()[1]}"))
        with pytest.raises(MifosUnavailable, match="refused") as caught:
            get(client)
    assert caught.value.sent is False


def reads_on(connection: Connection) -> None:
    connection.sock.shutdown(socket.SHUT_WR)
    while connection.sock.recv(1 << 20):
        pass


def hangs_up(connection: Connection) -> None:
    connection.sock.close()


@pytest.mark.parametrize("then", [reads_on, hangs_up])
def test_an_answer_given_before_the_whole_body_was_read_is_the_answer(then: Script) -> None:
    def script(connection: Connection) -> None:
        connection.sock.recv(1000)
        connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        then(connection)

    with serving(script) as (_, client):
        response = client.send("maker", "POST", "documents", body=b"x" * 8_000_000, timeout=WAIT)
        assert (response.status_code, len(kept(client))) == (413, 0 if then is hangs_up else 1)


def test_a_body_that_nobody_takes_is_unavailable_and_perhaps_done() -> None:
    def script(connection: Connection) -> None:
        connection.sock.recv(1000)

    with serving(script) as (_, client):
        with pytest.raises(MifosUnavailable) as caught:
            client.send("maker", "POST", "documents", body=b"x" * 8_000_000, timeout=WAIT)
        assert caught.value.sent == "unknown"


def exceptions_of(module: ModuleType) -> list[type[Exception]]:
    return [
        value
        for name, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Exception) and not issubclass(value, Warning)
        if value.__module__ == module.__name__ and not name.startswith("_")
    ]


# Not raised while a request runs: it is about the URL of a proxy, and there is none.
NEVER_RAISED = {urllib3.exceptions.ProxySchemeUnsupported}


@pytest.mark.parametrize("module", [requests.exceptions, urllib3.exceptions, http.client, socket, ssl])
def test_every_error_of_the_libraries_below_is_ours_to_translate(module: ModuleType) -> None:
    errors = set(exceptions_of(module)) - NEVER_RAISED
    assert errors
    assert [error for error in errors if not issubclass(error, TRANSPORT_ERRORS)] == []


@pytest.mark.parametrize("error", [*exceptions_of(requests.exceptions), OSError, ConnectionResetError, zlib.error])
def test_a_translated_error_names_the_host_and_what_went_wrong(error: type[Exception]) -> None:
    call = Call(1, room=0, monotonic=lambda: 0.0)
    try:
        cause = error()
    except TypeError:  # needs arguments
        cause = error("x", "x", 0)
    translated = as_gateway_error(cause, origin=Origin("https", "mifos.example", 8443), call=call)
    assert isinstance(translated, MifosUnavailable)
    assert "https://mifos.example:8443" in str(translated)


def test_the_kernels_own_timeout_is_not_our_limit() -> None:
    call = Call(1, room=0, monotonic=lambda: 0.0)
    cause = TimeoutError(110, "Connection timed out")
    origin = Origin("http", "mifos.example", 80)
    assert isinstance(as_gateway_error(cause, origin=origin, call=call), MifosUnavailable)
    assert isinstance(as_gateway_error(TimeoutError("timed out"), origin=origin, call=call), MifosTimeout)


# Connections


def kept(client: MifosClient) -> Collection[deadline.Wire]:
    [adapter] = client._sessions["maker"].adapters.values()
    assert isinstance(adapter, deadline.DeadlineAdapter)
    return adapter._idle


def test_a_connection_is_kept_for_the_next_call() -> None:
    with serving(answer()) as (peer, client):
        for _ in range(20):
            get(client)
        assert (peer.connections, len(peer.requests)) == (1, 20)


def test_threads_share_the_connections() -> None:
    with serving(answer()) as (peer, client):
        for _ in range(5):
            thread = threading.Thread(target=get, args=(client,))
            thread.start()
            thread.join()
        assert peer.connections == 1


def test_more_threads_than_kept_connections_do_not_wait() -> None:
    gate = threading.Barrier(6, timeout=WAIT)

    def script(connection: Connection) -> None:
        for _ in connection.requests():
            gate.wait()
            connection.send(OK)

    with serving(script, pool_size=2) as (peer, client):
        threads = [threading.Thread(target=get, args=(client,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (peer.connections, len(peer.requests)) == (6, 6)
        assert len(kept(client)) == 2


def test_a_connection_that_the_peer_closed_is_replaced_before_anything_is_sent() -> None:
    closed = threading.Event()

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        connection.sock.close()
        closed.set()

    with serving(script) as (peer, client):
        get(client)
        assert closed.wait(WAIT)
        get(client)
        assert (peer.connections, len(peer.requests)) == (2, 2)


def test_a_kept_connection_that_breaks_after_the_request_is_not_tried_again() -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        connection.request()

    with serving(script) as (peer, client):
        get(client)
        with pytest.raises(MifosUnavailable) as caught:
            client.send("maker", "POST", "loans", body=b"{}", timeout=WAIT)
        assert (caught.value.sent, len(peer.requests), peer.connections) == ("unknown", 2, 1)


def test_an_answer_that_says_close_ends_its_connection() -> None:
    with serving(answer(HEADERS + b"Connection: close\r\nContent-Length: 0\r\n\r\n")) as (peer, client):
        get(client)
        get(client)
        assert peer.connections == 2


@pytest.mark.parametrize("size", [10, 20_000])
def test_bytes_behind_an_answer_are_never_taken_for_the_next(size: int) -> None:
    with serving(answer(OK + b"HTTP/1.1 500 Not Yours\r\nContent-Length: 0\r\n\r\n".ljust(size, b"x"))) as (
        peer,
        client,
    ):
        assert [get(client).status_code for _ in range(3)] == [200, 200, 200]
        assert peer.connections == 3


def test_a_connection_idle_for_long_is_replaced() -> None:
    now = 0.0
    with serving(answer()) as (peer, _):
        client = MifosClient(config(peer.url), monotonic=lambda: now)
        get(client)
        now += deadline._IDLE_SECONDS
        get(client)
        client.close()
        assert peer.connections == 2


def test_idle_connections_end_with_the_client() -> None:
    with serving(answer()) as (peer, client):
        get(client)
        client.close()
        assert peer.connections == 1


def test_a_call_that_outlives_close_ends_its_connection() -> None:
    with serving(answer()) as (_, client):
        client.close()
        get(client)
        assert not kept(client)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own() -> None:
    with serving(answer()) as (peer, client):
        get(client)
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if get(client).status_code == 200 else 1)
            except BaseException:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        get(client)
        assert (peer.connections, len(peer.requests)) == (2, 3)


def test_a_client_that_is_gone_is_not_renewed() -> None:
    from mifos_gateway import client as module

    gc.collect()  # other tests' clients
    before = len(module._clients)
    client = MifosClient(config("http://mifos"))
    assert len(module._clients) == before + 1
    del client
    gc.collect()
    assert len(module._clients) <= before


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def ca_bundle(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def test_a_bundle_of_ones_own_is_trusted_and_the_connection_kept(authority: trustme.CA, ca_bundle: str) -> None:
    with serving(answer(), tls=server_context(authority, "127.0.0.1"), ca_bundle=ca_bundle) as (peer, client):
        for _ in range(5):
            assert get(client).status_code == 200
        assert peer.connections == 1


def test_an_unknown_authority_is_unavailable_and_nothing_was_sent(authority: trustme.CA) -> None:
    with serving(answer(), tls=server_context(authority, "127.0.0.1")) as (peer, client):
        with pytest.raises(MifosUnavailable, match="certificate is not accepted") as caught:
            get(client)
        assert (caught.value.sent, peer.requests) == (False, [])


def test_a_certificate_for_another_host_is_unavailable(authority: trustme.CA, ca_bundle: str) -> None:
    with (
        serving(answer(), tls=server_context(authority, "elsewhere.example"), ca_bundle=ca_bundle) as (_, client),
        pytest.raises(MifosUnavailable, match="certificate is not accepted"),
    ):
        get(client)


def test_verification_can_be_turned_off(authority: trustme.CA) -> None:
    with serving(answer(), tls=server_context(authority, "elsewhere.example"), verify_tls=False) as (_, client):
        assert get(client).status_code == 200


def test_a_peer_without_tls_is_unavailable(ca_bundle: str) -> None:
    with serving(says(b"HTTP/1.1 400 Bad\r\n\r\n")) as (peer, _):
        client = MifosClient(config(peer.url.replace("http:", "https:"), ca_bundle=ca_bundle))
        peer.script = lambda connection: connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(MifosUnavailable, match="TLS failed") as caught:
            get(client)
        assert caught.value.sent is False


def test_a_reset_over_tls_is_unavailable_and_perhaps_done(authority: trustme.CA, ca_bundle: str) -> None:
    with serving(resets, tls=server_context(authority, "127.0.0.1"), ca_bundle=ca_bundle) as (_, client):
        with pytest.raises(MifosUnavailable) as caught:
            get(client)
        assert caught.value.sent == "unknown"


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_bundle_that_cannot_be_read_is_said_at_once(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    with pytest.raises(ValueError, match=r"ca\.pem"):
        MifosClient(config("https://mifos", ca_bundle=str(tmp_path / "ca.pem")))


# Secrets


def test_a_password_is_in_no_representation() -> None:
    settings_ = config("http://mifos")
    shown = f"{settings_!r} {settings_.maker!r} {MifosClient(settings_)!r} {Credentials('u', 'geheim')}"
    assert "password" not in shown.replace("password=", "")
    assert "geheim" not in shown


@pytest.mark.parametrize("script", [says(b"garbage"), says(HEADERS + b"Content-Length: 9\r\n\r\nabc"), resets])
def test_an_error_shows_neither_secrets_nor_the_query(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(script) as (_, client), pytest.raises(GatewayError) as caught:
        get(client, "clients?name=Jane")
    error: BaseException | None = caught.value
    shown = [caplog.text, repr(error), str(error)]
    while error is not None:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        ours = [frame for frame in frames if "mifos_gateway/" in frame.filename and "tests" not in frame.filename]
        shown += [str(frame.locals) for frame in ours]
        shown += [str(error)]
        error = error.__cause__ or error.__context__
    everything = "\n".join(shown)
    assert base64.b64encode("maker:maker-pässword".encode()).decode() not in everything
    assert "pässword" not in everything
    assert "Jane" not in "\n".join([caplog.text, str(caught.value), repr(caught.value)])


def test_a_response_does_not_carry_our_credentials() -> None:
    with serving(answer()) as (_, client):
        assert "authorization" not in get(client).request.headers

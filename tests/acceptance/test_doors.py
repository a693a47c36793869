"""What gunicorn, real sockets and MIFOS make of a call, byte for byte, and what a log line may hold."""

import base64
import contextlib
import gzip
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import Got
from tests.acceptance.gateway import Gateway, mifos_environ
from tests.programs import RedisServer, wait_for

MIFOS_ROOT = "/fineract-provider/api/v1/"
LIMIT = 100_000


class Site:
    """A gateway with small limits that logs JSON, and the MIFOS behind it."""

    def __init__(self, gateway: Gateway, mifos: Sandbox) -> None:
        self.gateway, self.mifos = gateway, mifos

    def raw(self, *lines: str, body: bytes = b"") -> Got:
        """What comes back for these very lines, on a connection of their own."""
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=20) as wire:
            wire.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            return self.answer(wire, lines[0].partition(" ")[0])

    @staticmethod
    def answer(wire: socket.socket, method: str = "GET") -> Got:
        answer = http.client.HTTPResponse(wire, method=method)
        answer.begin()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Got(answer.status, 0, 0, headers, answer.read())

    def lines(self, method: str, path: str, *headers: str, user: str = "maker") -> list[str]:
        return [
            f"{method} /api/v1/mifos/{user}/{path} HTTP/1.1",
            "Host: gateway.example",
            "Connection: close",
            f"Authorization: Token {self.gateway.token}",
            *headers,
        ]

    def call(self, method: str, path: str, *headers: str, body: bytes = b"") -> Got:
        return self.raw(*self.lines(method, path, *headers), body=body)

    def echo(self, method: str, path: str, *headers: str, body: bytes = b"") -> dict[str, Any]:
        """What MIFOS got."""
        got = self.call(method, f"__echo/{path}", *headers, body=body)
        assert got.status == 200, got
        return got.json

    def reached(self) -> int:
        return int(self.mifos.log.report(0)["count"])


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    copy_database: Callable[[Path], object],
    token: str,
    shared_redis: RedisServer,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("doors")
    copy_database(folder)
    environ = {
        "REDIS_URL": shared_redis.patient_url,
        "BREAKER_NAMESPACE": "doors",
        "BREAKER_TIMEOUT": "1",
        "BREAKER_VOLUME_THRESHOLD": "100000",
        "GATEWAY_MAX_REQUEST_BYTES": str(LIMIT),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
    }
    with Sandbox() as mifos:
        gateway = Gateway(folder, mifos_environ(mifos) | environ, token)
        yield Site(gateway, mifos)
        gateway.stop()


@pytest.fixture(autouse=True)
def healthy(site: Site) -> Iterator[None]:
    yield
    site.mifos.set_faults(mode="ok")


# -- paths and queries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "plain/1",
        "trailing/",
        "a%20b/%C3%A9/%c3%a9",
        "%41%7a%7E",  # escapes that nobody needs
        "~-._!$&'()*+,=:@",
        "matrix;a=1;b/next",
        "q?",
        "q?a=1&a=2&&b=&c&=d",
        "q?a=b+c%20d%2Fe%252F&x=/?:@!$'()*,;",
        "q?x=%ff%00%0d%0a",
        "q?x=../..//%2e%2e\\",
        'q?x={}|^`[]"<>',
    ],
)
def test_path_and_query_reach_mifos_byte_for_byte(site, path):
    assert site.echo("GET", path)["target"] == f"{MIFOS_ROOT}__echo/{path}"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("clients?limit=1", "/fineract-provider/api/v1/clients?limit=1"),
        ("v1/clients?limit=1", "/fineract-provider/api/v1/clients?limit=1"),
        ("api/v1/clients?limit=1", "/fineract-provider/api/v1/clients?limit=1"),
        ("v2/clients/search", "/fineract-provider/api/v2/clients/search"),
    ],
)
def test_the_version_may_stand_in_front_of_a_path(site, path, target):
    site.call("GET", path)
    assert site.mifos.requests()[-1]["target"] == target


def test_a_request_line_with_an_absolute_address_goes_to_our_mifos_only(site):
    lines = site.lines("GET", "__echo/x?y=1")
    lines[0] = lines[0].replace("/api/", "http://elsewhere.example/api/", 1)
    assert site.raw(*lines).json["target"] == f"{MIFOS_ROOT}__echo/x?y=1"


@pytest.mark.parametrize(
    "path",
    [
        "../clients",
        "clients/../users",
        "clients/./1",
        "clients/..",
        "%2e%2e/clients",
        "%2E./clients",
        "clients/.%2e",
        "clients%2f1",
        "clients%2F..%2Fusers",
        "clients%5c1",
        "clients\\1",
        "%252e%252e/clients",
        "clients//1",
        "//elsewhere.example/clients",
        "http://elsewhere.example/clients",
        "..;/clients",
        "clients/..;a=b/users",
        "%c0%ae%c0%ae/clients",
        "clients/%00",
        "clients/%0d%0aX-Evil:1",
        "clients/%7f",
        "clients/%zz",
        "clients?tenantIdentifier=other",
        "clients?a=1&TENANTIDENTIFIER=other",
        "clients?%74enantIdentifier=other",
        "clients?a=1;tenantIdentifier=other",
        "clients?tenantIdentifier",
    ],
)
def test_what_could_leave_the_api_is_refused_and_never_reaches_mifos(site, path):
    before = site.reached()

    got = site.call("GET", path)

    assert (got.status, got.json["success"], got.json["sent"]) == (400, False, False)
    assert got.headers["x-gateway-error"] == got.json["code"]
    assert site.reached() == before


@pytest.mark.parametrize(
    "start", ["/api/v1/mifos/make%72/clients", "/api/v1/mifos/maker%2fclients", "/api/v1//mifos/maker/x"]
)
def test_a_disguised_start_of_the_path_reaches_nobody(site, start):
    before = site.reached()
    lines = site.lines("GET", "clients")

    got = site.raw(f"GET {start} HTTP/1.1", *lines[1:])

    assert got.status in (400, 404)
    assert got.json["success"] is False
    assert site.reached() == before


# -- bodies ------------------------------------------------------------------------------------------------------------

ALL_BYTES = bytes(range(256)) * 20


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
def test_a_body_reaches_mifos_byte_for_byte(site, method):
    got = site.echo(
        method, "x", f"Content-Length: {len(ALL_BYTES)}", "Content-Type: application/x-odd; a=b", body=ALL_BYTES
    )

    assert (got["method"], base64.b64decode(got["body"])) == (method, ALL_BYTES)
    assert got["headers"]["content-type"] == "application/x-odd; a=b"


@pytest.mark.parametrize("pieces", [(ALL_BYTES[:1], ALL_BYTES[1:3000], ALL_BYTES[3000:]), ()], ids=["three", "none"])
def test_a_chunked_body_reaches_mifos_byte_for_byte(site, pieces):
    got = site.echo("POST", "x", "Transfer-Encoding: chunked", body=chunked(*pieces))

    assert base64.b64decode(got["body"]) == b"".join(pieces)
    assert got["headers"]["content-length"] == str(len(b"".join(pieces)))
    assert "transfer-encoding" not in got["headers"]


def test_a_post_without_a_body_has_none_at_mifos(site):
    got = site.echo("POST", "x")
    assert (got["body"], got["headers"]["content-length"]) == ("", "0")


def test_a_caller_that_waits_for_leave_to_send_gets_it(site):
    lines = site.lines("POST", "__echo/x", f"Content-Length: {len(ALL_BYTES)}", "Expect: 100-continue")
    with socket.create_connection(("127.0.0.1", site.gateway.port), timeout=20) as wire:
        wire.sendall("\r\n".join([*lines, "", ""]).encode())
        assert wire.recv(1000).startswith(b"HTTP/1.1 100 ")
        wire.sendall(ALL_BYTES)
        got = site.answer(wire)

    assert base64.b64decode(got.json["body"]) == ALL_BYTES
    assert "expect" not in got.json["headers"]


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (f"Content-Length: {LIMIT + 1}", b"x" * (LIMIT + 1)),
        ("Transfer-Encoding: chunked", chunked(b"x" * LIMIT, b"x")),
    ],
    ids=["length", "chunked"],
)
def test_a_body_beyond_the_limit_is_refused_and_never_reaches_mifos(site, header, body):
    before = site.reached()

    got = site.call("POST", "clients", header, body=body)

    assert (got.status, got.json["code"], got.json["sent"]) == (413, "REQUEST_TOO_LARGE", False)
    assert site.reached() == before


@pytest.mark.parametrize("length", [LIMIT + 1, 20_000_000])
def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(site, length):
    lines = [line for line in site.lines("POST", "clients", f"Content-Length: {length}") if "close" not in line]
    with socket.create_connection(("127.0.0.1", site.gateway.port), timeout=20) as wire:
        begun = time.monotonic()
        wire.sendall("\r\n".join([*lines, "", ""]).encode())
        got = site.answer(wire)
        took = time.monotonic() - begun
        assert wire.recv(1) == b""

    assert (got.status, got.json["code"], got.json["sent"]) == (413, "REQUEST_TOO_LARGE", False)
    assert took < 10


def test_a_body_beyond_the_limit_is_not_asked_for(site):
    lines = site.lines("POST", "clients", f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")
    with socket.create_connection(("127.0.0.1", site.gateway.port), timeout=20) as wire:
        wire.sendall("\r\n".join([*(line for line in lines if "close" not in line), "", ""]).encode())
        answer = wire.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def test_who_sends_on_beyond_the_limit_sees_the_refusal(site):
    got = site.call("POST", "clients", "Content-Length: 20000000", body=b"x" * 20_000_000)

    assert (got.status, got.json["code"]) == (413, "REQUEST_TOO_LARGE")


def test_one_who_withholds_a_body_holds_up_nobody(site):
    lines = [*site.lines("POST", "clients", "Content-Length: 20000000"), "", ""]
    with contextlib.ExitStack() as stack:
        for _ in range(24):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", site.gateway.port), timeout=20))
            wire.sendall("\r\n".join(lines).encode())
        assert requests.get(f"{site.gateway.url}/livez", timeout=6).ok


def test_a_body_at_the_limit_passes(site):
    got = site.echo("POST", "x", f"Content-Length: {LIMIT}", body=b"x" * LIMIT)
    assert len(base64.b64decode(got["body"])) == LIMIT


def test_a_body_that_breaks_off_never_reaches_mifos(site):
    before = site.reached()
    lines = site.lines("POST", "clients", "Content-Length: 1000")
    with socket.create_connection(("127.0.0.1", site.gateway.port), timeout=20) as wire:
        wire.sendall("\r\n".join([*lines, "", ""]).encode() + b"half")
        wire.shutdown(socket.SHUT_WR)
        got = site.answer(wire)

    assert (got.status, got.json["sent"]) == (400, False)
    assert site.reached() == before


# -- answers -----------------------------------------------------------------------------------------------------------


def direct(site: Site, path: str, **headers: str) -> requests.Response:
    """The same of MIFOS without a gateway."""
    identity = {"Fineract-Platform-TenantId": "default", "Accept-Encoding": "identity"}
    return requests.get(f"{site.mifos.base_url}/{path}", auth=("maker", "sandbox-maker"), headers=identity | headers)


@pytest.mark.parametrize(
    "path", ["clients/1", "clients/999999", "nothing/there", "runreports/x?R_rows=2&exportCSV=true"]
)
def test_status_body_and_kind_come_back_as_mifos_gave_them(site, path):
    got, wanted = site.call("GET", path), direct(site, path)

    assert (got.status, got.body) == (wanted.status_code, wanted.content)
    assert got.headers["content-type"] == wanted.headers["Content-Type"]
    assert got.headers.get("content-disposition") == wanted.headers.get("Content-Disposition")
    assert "x-gateway-error" not in got.headers


def test_a_failure_of_mifos_comes_back_as_it_is(site):
    site.mifos.set_faults(mode="error", status=500, body={"developerMessage": "it broke"})
    got = site.call("GET", "clients")
    assert (got.status, got.json, got.code) == (500, {"developerMessage": "it broke"}, "")


@pytest.mark.parametrize("accepts", ["gzip", "identity", "br"])
@pytest.mark.parametrize("chunks", ["true", "false"])
def test_a_compressed_answer_is_what_its_headers_say(site, accepts, chunks):
    got = site.call("GET", f"runreports/x?R_rows=500&R_chunked={chunks}", f"Accept-Encoding: {accepts}")

    content = gzip.decompress(got.body) if got.headers.get("content-encoding") == "gzip" else got.body
    assert content == direct(site, "runreports/x?R_rows=500").content
    assert int(got.headers["content-length"]) == len(got.body)


def test_a_head_has_the_headers_and_no_body(site):
    before = site.gateway.status()["maker"]["request"]["stats"]["fires"]

    got = site.call("HEAD", "clients/1")

    assert (got.status, got.body) == (200, b"")
    assert got.headers["content-type"] == "application/json"
    assert site.mifos.requests()[-1]["method"] == "HEAD"
    wait_for(lambda: site.gateway.status()["maker"]["request"]["stats"]["fires"] == before + 1, "counted as request")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_may_have_no_body_has_none(site, status):
    with socket.create_connection(("127.0.0.1", site.gateway.port), timeout=20) as wire:
        lines = [
            line
            for line in site.lines("GET", f"__echo/x?__status={status}&__header=ETag:%22v1%22")
            if "close" not in line
        ]
        for _ in range(2):  # the second one would meet what the first left on the connection
            wire.sendall("\r\n".join([*lines, "", ""]).encode())
            got = site.answer(wire)
            assert (got.status, got.body, got.headers["etag"]) == (status, b"", '"v1"')
            assert got.headers.get("content-length", "0") == "0"


def test_conditions_reach_mifos(site):
    headers = site.echo("GET", "x", 'If-None-Match: "v1"', 'If-Match: "v2"', "Accept: text/csv")["headers"]
    assert [headers[name] for name in ("if-none-match", "if-match", "accept")] == ['"v1"', '"v2"', "text/csv"]


def test_a_redirect_is_not_followed(site):
    before = site.reached()
    got = site.call("GET", f"__echo/x?__status=302&__header=Location:{site.mifos.base_url}/offices")
    assert (got.status, site.reached()) == (302, before + 1)
    assert "location" not in got.headers  # it would lead around the gateway


# -- headers -----------------------------------------------------------------------------------------------------------


def test_mifos_learns_nothing_of_the_caller_but_what_it_needs(site):
    headers = site.echo(
        "GET",
        "x",
        "Cookie: sessionid=1",
        "Proxy-Authorization: Basic eDp5",
        "Fineract-Platform-TenantId: other",
        "Forwarded: for=10.0.0.1",
        "X-Forwarded-For: 10.0.0.1",
        "TE: trailers",
        "Upgrade: h2c",
        "Keep-Alive: timeout=9",
        "X-Whatever: 1",
        "Referer: http://caller.example/",
    )["headers"]

    assert headers["authorization"] == "maker"  # the echo shows whose credentials they were
    assert headers["fineract-platform-tenantid"] == "default"
    assert headers.keys() <= {
        *("host", "user-agent", "authorization", "fineract-platform-tenantid", "connection"),
        *("accept", "accept-encoding", "content-type", "x-request-id", "x-correlation-id"),
    }


def test_the_caller_gets_no_header_that_is_between_mifos_and_us(site):
    names = ("Set-Cookie", "Keep-Alive", "Proxy-Authenticate", "WWW-Authenticate", "X-Powered-By", "Trailer", "Upgrade")
    asked = "&".join(f"__header={name}:a=b" for name in names)

    got = site.call("GET", f"__echo/x?{asked}")

    assert got.status == 200
    assert not {name.lower() for name in names} & got.headers.keys()
    assert "x-mifos-sandbox" not in got.headers


def test_the_request_id_goes_both_ways(site):
    got = site.call("GET", "__echo/x", "X-Request-ID: Order-17.b_c")

    assert got.headers["x-request-id"] == "Order-17.b_c"
    seen = got.json["headers"]
    assert (seen["x-request-id"], seen["x-correlation-id"]) == ("Order-17.b_c", "Order-17.b_c")


@pytest.mark.parametrize("given", [[], ["X-Request-ID: has space"], [f"X-Request-ID: {'x' * 65}"], ["X-Request-ID: ü"]])
def test_a_request_id_is_made_where_none_can_be_used(site, given):
    got = site.call("GET", "__echo/x", *given)

    made = got.headers["x-request-id"]
    assert made.isalnum()
    assert got.json["headers"]["x-request-id"] == made
    assert given != [f"X-Request-ID: {made}"]


# -- Idempotency-Key ---------------------------------------------------------------------------------------------------


def key_at_mifos(site: Site, path: str, key: str, *, method: str = "POST", user: str = "maker", token: str = "") -> str:
    lines = site.lines(method, path, f"Idempotency-Key: {key}", user=user)
    if token:
        lines = [line.replace(site.gateway.token, token) for line in lines]
    assert site.raw(*lines).status == 200
    return str(site.mifos.requests()[-1]["key"])


def test_mifos_gets_a_digest_of_an_idempotency_key(site):
    made = key_at_mifos(site, "__echo/x?a=1", "order-17")

    assert 20 < len(made) <= 50
    assert "order-17" not in made
    assert {
        key_at_mifos(site, path, "order-17") for path in ("__echo/x?a=1", "v1/__echo/x?a=1", "api/v1/__echo/x?a=1")
    } == {made}


def test_nobodys_idempotency_key_can_meet_anothers(site):
    other = site.gateway.manage("create_consumer other --maker --checker").stdout.split()[-1]

    keys = [
        key_at_mifos(site, "__echo/x", "order-17"),
        key_at_mifos(site, "__echo/x", "order-17", token=other),
        key_at_mifos(site, "__echo/x", "order-17", user="checker"),
        key_at_mifos(site, "__echo/x", "order-17", method="PUT"),
        key_at_mifos(site, "__echo/y", "order-17"),
        key_at_mifos(site, "__echo/x?a=1", "order-17"),
        key_at_mifos(site, "__echo/x", "order-18"),
    ]

    assert len(set(keys)) == len(keys)


def test_a_repeated_command_is_done_once(site):
    client = {"firstname": "A", "lastname": "B", "officeId": 1, "active": False, "legalFormId": 1}
    body = json.dumps(client).encode()
    headers = ["Idempotency-Key: once", "Content-Type: application/json", f"Content-Length: {len(body)}"]

    first, again = (site.call("POST", "clients", *headers, body=body) for _ in range(2))

    assert (first.status, again.status) == (200, 200)
    assert first.json["clientId"] == again.json["clientId"]
    assert again.headers["x-served-from-cache"] == "true"


# -- the log -----------------------------------------------------------------------------------------------------------

SECRET = "lovelace"


def provoke(site: Site) -> None:
    """Everything that could tempt a logger, each time with a secret in it."""
    body = f'{{"name": "{SECRET}"}}'.encode()
    sized = f"Content-Length: {len(body)}"
    site.call(
        "POST", f"clients/{SECRET}?q={SECRET}", sized, f"Cookie: a={SECRET}", f"Idempotency-Key: {SECRET}", body=body
    )
    site.call("GET", f"../{SECRET}?q={SECRET}")
    site.call("GET", f"clients?tenantIdentifier={SECRET}")
    site.call("POST", "clients", "Content-Type: application/json", sized, body=body)
    site.call("POST", f"clients?x={SECRET}", f"Idempotency-Key: {SECRET * 40}")
    for fault in ({"mode": "reset"}, {"mode": "hang"}, {"mode": "error"}, {"mode": "reset", "where": "body"}):
        site.mifos.set_faults(fault)
        site.call("POST", f"clients/{SECRET}?q={SECRET}", sized, body=body)
    site.mifos.set_faults(mode="ok")
    lines = site.lines("GET", "clients")
    for headers in (
        ["Authorization: Token " + SECRET],
        [f"Authorization: Basic {SECRET}"],
        [lines[3], f"Bad Header {SECRET}: x"],
        [lines[3], f"X-Control: {SECRET}\x01"],
        [lines[3], f"Content-Length: {SECRET}"],
        [lines[3], f"Transfer-Encoding: {SECRET}"],
        [lines[3], f"X-Long-{SECRET}: {'x' * 9000}"],
        [lines[3], f"Host: {SECRET}_@[x"],
    ):
        site.raw(*lines[:3], *headers)
    site.raw(*lines, "Transfer-Encoding: chunked", body=f"{SECRET}\r\n".encode())
    for first in (
        f"GET /api/v1/mifos/maker/clients?q={SECRET} {SECRET} HTTP/1.1",
        f"GET /api/v1/mifos/maker/{SECRET}{'x' * 9000} HTTP/1.1",
        f"GET /api/v1/nothing/{SECRET}?q={SECRET} HTTP/1.1",
        f"{SECRET} /api/v1/mifos/maker/clients HTTP/1.1",
        f"GET {SECRET} HTTP/1.1",
        f"GET /api/v1/mifos/maker/clients?q={SECRET} HTTP/{SECRET}",
        f"GET /admin/?next={SECRET} HTTP/1.1",
        f"POST /admin/login/?next={SECRET} HTTP/1.1",
        f"GET /static/{SECRET}?q={SECRET} HTTP/1.1",
    ):
        site.raw(first, *lines[1:])


def test_no_log_line_holds_what_a_caller_sent_and_each_is_json(site):
    provoke(site)
    site.call("GET", "clients", "X-Request-ID: the-last-one")
    wait_for(lambda: "the-last-one" in site.gateway.log, "the last call is told", 5)

    lines = site.gateway.log.splitlines()
    assert [line for line in lines if SECRET in line.lower()] == []
    assert [line for line in lines if site.gateway.token in line or "sandbox-maker" in line] == []
    told = [json.loads(line) for line in lines]
    assert all({"timestamp", "level", "logger", "message"} <= line.keys() for line in told)
    last = next(line for line in told if line["requestId"] == "the-last-one" and line["logger"] == "gateway.access")
    assert {name: last[name] for name in ("consumer", "client", "method", "route", "status", "outcome")} == {
        "consumer": "acceptance",
        "client": "maker",
        "method": "GET",
        "route": "clients",
        "status": 200,
        "outcome": "success",
    }

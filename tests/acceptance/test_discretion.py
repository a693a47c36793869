"""No line of a real gateway's log holds what callers sent, at any level and in any format."""

import socket
import time
from collections.abc import Callable

import pytest
import requests

from tests.acceptance.gateway import Gateway
from tests.programs import wait_for

MARKER = "Rao"
TOKEN = f"mgw_{MARKER}"
MALFORMED = {
    "InvalidHeader": f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization Token {TOKEN}\r\n\r\n",
    "InvalidHeaderName": f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization {MARKER}: Token\r\n\r\n",
    "InvalidHTTPVersion": f"GET /api/v1/mifos/maker/clients?displayName=Asha {MARKER} HTTP/1.1\r\nHost: x\r\n\r\n",
    "InvalidRequestMethod": f"{MARKER} / HTTP/1.1\r\nHost: x\r\n\r\n",
    "InvalidRequestLine": f"{MARKER}\r\nHost: x\r\n\r\n",
    "LimitRequestLine": f"GET /{MARKER * 5000} HTTP/1.1\r\nHost: x\r\n\r\n",
    "LimitRequestHeaders": f"GET / HTTP/1.1\r\nHost: x\r\nX-Long: {MARKER * 5000}\r\n\r\n",
    "ExpectationFailed": f"GET / HTTP/1.1\r\nHost: x\r\nExpect: {MARKER}\r\n\r\n",
    "ObsoleteFolding": f"GET / HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n {MARKER}\r\n\r\n",
    "UnsupportedTransferCoding": f"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {MARKER}\r\n\r\n",
}
"""By the kind of error that gunicorn's line shall still name."""


def send(gateway: Gateway, data: str) -> bytes:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(data.encode())
        return connection.recv(65536)


def call_in_every_way(gateway: Gateway) -> None:
    """Well-formed requests with the marker wherever a caller may write."""
    wrong = {"headers": {"Authorization": f"Token {TOKEN}"}, "timeout": 10}
    gateway.call("GET", f"clients/{MARKER}?displayName={MARKER}")
    gateway.call("POST", f"clients?x={MARKER}", data=MARKER)
    gateway.call("GET", f"clients/../{MARKER}")
    gateway.call("GET", "clients", headers={"Host": f"{MARKER}.example", "Cookie": MARKER, "Accept": MARKER})
    for path in (
        f"api/v1/mifos/maker/{MARKER}",
        f"api/v1/{MARKER}?x={MARKER}",
        f"{MARKER}",
        f"admin/{MARKER}?{MARKER}",
    ):
        requests.get(f"{gateway.url}/{path}", **wrong)
    form = {"username": MARKER, "password": MARKER}
    requests.post(f"{gateway.url}/admin/login/?next=/{MARKER}", data=form, **wrong)
    referred = wrong | {
        "headers": {"Referer": f"https://{MARKER}.example/{MARKER}", "Origin": f"https://{MARKER}.example"}
    }
    requests.post(f"{gateway.url}/admin/login/", data=form, **referred)


@pytest.mark.parametrize("style", ["plain", "json"])
def test_no_line_holds_what_callers_sent_though_at_debug(start_gateway: Callable[..., Gateway], redis_server, style):
    gateway = start_gateway(
        LOG_LEVEL="DEBUG",
        LOG_FORMAT=style,
        REDIS_URL=redis_server.patient_url,
        DJANGO_ALLOWED_HOSTS="127.0.0.1",
        BREAKER_VOLUME_THRESHOLD="100",
    )
    for data in MALFORMED.values():
        assert b" 200 " not in send(gateway, data)
    call_in_every_way(gateway)
    wait_for(lambda: gateway.log.count("gateway.access") >= 6, "the log is written")
    time.sleep(1)  # the lines that must not come
    gateway.stop()

    assert MARKER not in gateway.log
    assert [kind for kind in MALFORMED if f"Invalid request: {kind}" not in gateway.log] == []
    assert "DisallowedHost" in gateway.log
    assert "csrf" in gateway.log

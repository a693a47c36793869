"""Every door of the REST API to MIFOS."""

import io
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import RequestFactory
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mifos_gateway import guard, tokens, wire
from mifos_gateway.errors import MifosTimeout, MifosUnavailable, ResponseTooLarge
from mifos_gateway.models import Consumer
from mifos_gateway.refusals import InvalidPath
from mifos_gateway.token_memory import memory
from tests.mifos_gateway.conftest import Caller, FakeMifos, mifos_answer

pytestmark = pytest.mark.django_db


def assert_error(response: Any, status: int, code: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(response.content)
    assert (response.status_code, body["code"], response.headers["X-Gateway-Error"]) == (status, code, code)
    assert response.headers["Content-Type"] == "application/json"
    assert body["success"] is False
    assert body["message"]
    assert body["requestId"] == response.headers["X-Request-ID"]
    assert {name: body.get(name) for name in more} == more
    return body


# -- forwarding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
@pytest.mark.parametrize("user", ["maker", "checker"])
def test_each_method_is_forwarded_as_each_user(caller: Caller, mifos: FakeMifos, method: str, user: str) -> None:
    response = caller.mifos("clients", method, user=user)

    assert response.status_code == 200
    assert (mifos.last["user"], mifos.last["method"], mifos.last["target"]) == (user, method, "clients")


@pytest.mark.parametrize(
    "target",
    [
        "clients",
        "clients/",
        "api/v1/clients",
        "v1/clients",
        "v2/clients/search",
        "runreports/Client%20Listing?R_officeId=1",
        "search?query=a%20b+c&x=%2F%25",
        "clients/external-id/%E0%A4%86",
        "clients/external-id/%e0%a4%86",
        "clients?",
        "clients?a=b?c",
        "clients/%41%7e~",
        "clients/'()*!,:@$&+=",
    ],
)
def test_path_and_query_go_on_byte_for_byte(caller: Caller, mifos: FakeMifos, target: str) -> None:
    caller.mifos(target)

    assert mifos.last["target"] == target


def test_a_request_in_absolute_form_is_understood(caller: Caller, mifos: FakeMifos) -> None:
    caller.mifos("clients?a=1", raw="http://gateway.example/api/v1/mifos/maker/clients?a=1")

    assert mifos.last["target"] == "clients?a=1"


def test_a_server_that_does_not_tell_the_target_is_good_enough(caller: Caller, mifos: FakeMifos) -> None:
    caller.mifos("runreports/Client Listing?a=%20", raw="")

    assert mifos.last["target"] == "runreports/Client%20Listing?a=%20"


@pytest.mark.parametrize("body", [b'{"a": 1}', b"\x00\xff\r\n", b"a" * 100_000])
def test_a_body_goes_on_byte_for_byte(caller: Caller, mifos: FakeMifos, body: bytes) -> None:
    caller.mifos("clients", "POST", body=body, content_type="application/x-anything; a=b")

    assert (mifos.last["body"], mifos.last["headers"]["Content-Type"]) == (body, "application/x-anything; a=b")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "PATCH", "POST"])
@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data"])
def test_every_methods_body_goes_on(caller: Caller, mifos: FakeMifos, method: str, content_type: str) -> None:
    caller.mifos("clients", method, body=b"\x00not form\xff", CONTENT_TYPE=content_type)

    assert mifos.last["body"] == b"\x00not form\xff"
    assert mifos.last["headers"].get("Content-Type", "") == content_type


def test_no_body_is_none(caller: Caller, mifos: FakeMifos) -> None:
    caller.mifos("clients", "POST")

    assert mifos.last["body"] is None


def test_only_the_named_headers_go_on(caller: Caller, mifos: FakeMifos) -> None:
    caller.mifos(
        headers={
            "Accept": "text/csv",
            "If-None-Match": '"a"',
            "If-Match": '"b"',
            "Cookie": "session=1",
            "Fineract-Platform-TenantId": "other",
            "X-Forwarded-For": "1.2.3.4",
            "Accept-Language": "de",
        }
    )

    assert set(mifos.last["headers"]) == {"Accept", "If-None-Match", "If-Match", "X-Request-ID", "X-Correlation-ID"}


def test_the_callers_request_id_goes_to_mifos_and_back(caller: Caller, mifos: FakeMifos) -> None:
    response = caller.mifos(headers={"X-Request-ID": "my.id_1-A"})

    assert response.headers["X-Request-ID"] == "my.id_1-A"
    assert [mifos.last["headers"][name] for name in ("X-Request-ID", "X-Correlation-ID")] == ["my.id_1-A"] * 2


@pytest.mark.parametrize("offered", ["", "a b", "x" * 65, "a\u00e9", "<script>"])
def test_a_malformed_request_id_is_replaced(caller: Caller, mifos: FakeMifos, offered: str) -> None:
    response = caller.mifos(headers={"X-Request-ID": offered})

    assert response.headers["X-Request-ID"] != offered
    assert len(response.headers["X-Request-ID"]) == 32


# -- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 403, 404, 409, 425, 429, 500, 503])
def test_mifoss_answer_passes_unchanged(caller: Caller, mifos: FakeMifos, status: int) -> None:
    body = b"" if status == 204 else b'{"developerMessage": "theirs"}'
    mifos.behaviour = mifos_answer(status, body)

    response = caller.mifos()
    assert (response.status_code, response.content) == (status, body)
    assert "X-Gateway-Error" not in response.headers


def test_an_html_error_of_a_proxy_passes_unchanged(caller: Caller, mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(502, b"<html>nginx</html>", {"Content-Type": "text/html"})

    response = caller.mifos()
    assert (response.content, response.headers["Content-Type"]) == (b"<html>nginx</html>", "text/html")


def test_useful_headers_pass_back(caller: Caller, mifos: FakeMifos) -> None:
    useful = {
        "Content-Type": "application/pdf",
        "ETag": '"v1"',
        "Content-Disposition": 'attachment; filename="a.pdf"',
        "Cache-Control": "private",
        "Retry-After": "3",
        "X-Served-From-Cache": "true",
    }
    mifos.behaviour = mifos_answer(headers=useful)

    response = caller.mifos()
    assert {name: response.headers.get(name) for name in useful} == useful


def test_harmful_headers_do_not_pass_back(caller: Caller, mifos: FakeMifos) -> None:
    harmful = {
        "Set-Cookie": "JSESSIONID=1",
        "WWW-Authenticate": "Basic",
        "Connection": "keep-alive, X-Private",
        "Keep-Alive": "timeout=5",
        "Transfer-Encoding": "chunked",
        "Content-Encoding": "gzip",
        "Proxy-Authenticate": "Basic",
        "Upgrade": "h2c",
        "Location": "http://mifos.internal/login",
        "Server": "Apache Tomcat",
    }
    mifos.behaviour = mifos_answer(headers=harmful)

    assert not set(harmful) & set(caller.mifos().headers)


def test_a_decoded_bodys_length_is_its_own(caller: Caller, mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(body=b"x" * 50, headers={"Content-Encoding": "gzip", "Content-Length": "9"})

    assert caller.mifos().headers["Content-Length"] == "50"


def test_no_content_type_is_invented(caller: Caller, mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(body=b"x", headers={})

    assert "Content-Type" not in caller.mifos().headers


@pytest.mark.parametrize(
    ("headers", "length"),
    [({"Content-Length": "1234"}, "1234"), ({"Content-Length": "9", "Content-Encoding": "gzip"}, None), ({}, None)],
)
def test_a_heads_length_is_the_gets(
    caller: Caller, mifos: FakeMifos, headers: dict[str, str], length: str | None
) -> None:
    mifos.behaviour = mifos_answer(body=b"", headers=headers)

    response = caller.mifos(method="HEAD")
    assert (response.content, response.headers.get("Content-Length")) == (b"", length)


def test_not_modified_has_no_length_of_nothing(caller: Caller, mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(304, b"", {"ETag": '"v1"'})

    response = caller.mifos()
    assert (response.status_code, response.headers["ETag"]) == (304, '"v1"')
    assert "Content-Length" not in response.headers


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code", "sent"),
    [
        (MifosUnavailable("MIFOS refused the connection.", sent=False), 502, "BAD_GATEWAY", False),
        (MifosUnavailable("MIFOS broke off.", sent="unknown"), 502, "BAD_GATEWAY", "unknown"),
        (MifosTimeout("MIFOS did not answer.", sent="unknown"), 504, "GATEWAY_TIMEOUT", "unknown"),
        (MifosTimeout("MIFOS could not be reached.", sent=False), 504, "GATEWAY_TIMEOUT", False),
        (ResponseTooLarge("Too much.", sent="unknown"), 502, "RESPONSE_TOO_LARGE", "unknown"),
        (mifos_answer(401), 502, "MIFOS_CREDENTIALS_REJECTED", "unknown"),
        (mifos_answer(999), 502, "BAD_GATEWAY", "unknown"),
        (RuntimeError("a fault of ours"), 500, "INTERNAL_ERROR", "unknown"),
    ],
)
def test_what_goes_wrong_has_one_shape(
    caller: Caller, mifos: FakeMifos, error: Any, status: int, code: str, sent: Any
) -> None:
    mifos.behaviour = error

    response = caller.mifos()
    assert_error(response, status, code, sent=sent)
    assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize("sent", [False, "unknown"])
@pytest.mark.parametrize("kind", [MifosUnavailable, MifosTimeout])
def test_where_mifos_is_stays_with_us(caller: Caller, mifos: FakeMifos, kind: Any, sent: Any) -> None:
    mifos.behaviour = kind("MIFOS (http://mifos.internal:8443) is not available: it is not valid for mifos.internal")

    assert b"mifos.internal" not in caller.mifos().content


def test_a_rejected_call_tells_when_to_come_again(
    caller: Caller, mifos: FakeMifos, breakers: dict[tuple[str, str], Any]
) -> None:
    breakers["maker", "get"].open()

    response = caller.mifos()
    body = assert_error(response, 503, "SERVICE_UNAVAILABLE", sent=False, breaker="MIFOS-Maker-get")
    seconds = body["retryAfter"]
    assert 50 < seconds <= 60
    assert response.headers["Retry-After"] == str(seconds)
    assert body["message"] == f"Service temporarily unavailable. Please try again in {seconds} seconds."


@pytest.mark.parametrize("authorization", [None, "Token", "Token nonsense", "Bearer x", "Basic eDp5", "Token \xff"])
def test_without_a_live_token_it_is_401(mifos: FakeMifos, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}

    response = Caller().mifos(headers=headers)
    assert_error(response, 401, "NOT_AUTHENTICATED", sent=False)
    assert response.headers["WWW-Authenticate"] == "Token"


def test_a_token_that_was_never_issued_is_401(mifos: FakeMifos) -> None:
    assert_error(Caller(tokens._make()).mifos(), 401, "NOT_AUTHENTICATED")


def test_a_revoked_token_is_401(caller: Caller, mifos: FakeMifos) -> None:
    tokens.revoke(Consumer.objects.get())

    assert_error(caller.mifos(), 401, "NOT_AUTHENTICATED")


def test_the_wrong_client_is_403(mifos: FakeMifos) -> None:
    caller = Caller(tokens.issue("reader", maker=True))

    assert_error(caller.mifos(user="checker"), 403, "FORBIDDEN", sent=False)
    assert not mifos.calls


@pytest.mark.parametrize("target", ["users", "USERS/1", "%75sers", "v1/users", "users;x=1", "batches", "users/"])
def test_administration_is_denied(caller: Caller, mifos: FakeMifos, target: str) -> None:
    assert_error(caller.mifos(target, "POST"), 403, "ROUTE_DENIED", sent=False)
    assert not mifos.calls


def test_no_denied_routes_allow_all(caller: Caller, mifos: FakeMifos, settings: Any) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "DENIED_ROUTES": []}

    assert caller.mifos("users").status_code == 200


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "clients/1", 200),
        ("HEAD", "v1/CLIENTS", 200),
        ("POST", "loans", 200),
        ("POST", "clients", 403),
        ("GET", "offices", 403),
        ("GET", "users", 403),
    ],
)
def test_a_consumer_may_be_kept_to_routes(mifos: FakeMifos, method: str, target: str, status: int) -> None:
    caller = Caller(tokens.issue("clerk", maker=True, allow=["GET clients*", "POST loans", "GET users"]))

    assert caller.mifos(target, method).status_code == status


@pytest.mark.parametrize(
    "target",
    ["../users", "clients/../users", "%2e%2e/users", "/clients", "clients%2f1", "a%5cb", "%252e", "a%00", "a\\b", ""],
)
def test_a_path_that_could_leave_the_api_never_reaches_mifos(caller: Caller, mifos: FakeMifos, target: str) -> None:
    assert_error(caller.mifos(target), 400, "INVALID_PATH", sent=False)
    assert not mifos.calls


@pytest.mark.parametrize("path", ["clients\n", "a\nb", "a\r", "clients/../users", "a%2fb", "a//b"])
def test_nor_does_it_where_the_server_has_decoded_it(caller: Caller, mifos: FakeMifos, path: str) -> None:
    response = caller.mifos(path.replace("%", "%25").replace("\n", "%0A").replace("\r", "%0D"), raw="")

    assert_error(response, 400, "INVALID_PATH")


def test_a_prefix_in_disguise_is_refused() -> None:
    request = RequestFactory().get("/api/v1/mifos/maker/clients", RAW_URI="/api/v1/mif%6Fs/maker/clients")

    with pytest.raises(InvalidPath):
        wire.target(request, "clients")


def test_a_query_that_chooses_the_tenant_never_reaches_mifos(caller: Caller, mifos: FakeMifos) -> None:
    assert_error(caller.mifos("clients?a=1&TenantIdentifier=x"), 400, "INVALID_QUERY", sent=False)
    assert not mifos.calls


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(target=st.text(st.sampled_from([*"abc/.%25eF;\\?#=&\x00\n é"]), max_size=15))
def test_whatever_is_asked_gets_an_answer_of_ours_or_goes_on_as_it_is(
    caller: Caller, mifos: FakeMifos, target: str
) -> None:
    mifos.calls.clear()
    response = caller.mifos(target)

    if response.status_code == 200:
        assert mifos.last["target"] == target
    else:
        assert response.headers["X-Gateway-Error"] in ("INVALID_PATH", "INVALID_QUERY")
        assert not mifos.calls


@pytest.mark.parametrize("path", ["other/clients", "", "makers", "MAKER/clients"])
def test_there_are_no_other_clients(caller: Caller, mifos: FakeMifos, path: str) -> None:
    assert_error(caller.call("GET", f"/api/v1/mifos/{path}"), 404, "NOT_FOUND", sent=False)


def test_a_client_alone_is_no_resource(caller: Caller, mifos: FakeMifos) -> None:
    assert_error(caller.call("GET", "/api/v1/mifos/maker"), 400, "INVALID_PATH", sent=False)


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_not_forwarded(caller: Caller, mifos: FakeMifos, method: str) -> None:
    response = caller.mifos(method=method)

    assert_error(response, 405, "METHOD_NOT_ALLOWED", sent=False)
    assert response.headers["Allow"] == "GET, POST, PUT, PATCH, DELETE, HEAD"


# -- bodies --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_bodies(settings: Any) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "MAX_REQUEST_BYTES": 100}


@pytest.mark.usefixtures("small_bodies")
def test_a_body_at_the_limit_passes(caller: Caller, mifos: FakeMifos) -> None:
    assert caller.mifos(method="POST", body=b"x" * 100).status_code == 200


@pytest.mark.usefixtures("small_bodies")
def test_a_larger_body_is_413(caller: Caller, mifos: FakeMifos) -> None:
    assert_error(caller.mifos(method="POST", body=b"x" * 101), 413, "REQUEST_TOO_LARGE", sent=False)
    assert not mifos.calls


@pytest.mark.usefixtures("small_bodies")
def test_a_body_that_says_it_is_larger_is_not_even_read(caller: Caller, mifos: FakeMifos) -> None:
    withheld = {"wsgi.input": Chunks(0, AssertionError("read")), "CONTENT_LENGTH": "101"}

    assert_error(caller.mifos(method="POST", **withheld), 413, "REQUEST_TOO_LARGE", sent=False)


@pytest.mark.usefixtures("small_bodies")
def test_after_a_413_the_connection_ends_with_its_answer_still_readable(caller: Caller, mifos: FakeMifos) -> None:
    ours, callers = socket.socketpair()
    with ours, callers:
        callers.sendall(b"x" * 1000)
        callers.shutdown(socket.SHUT_WR)
        caller.mifos(method="POST", body=b"x" * 101, **{"gunicorn.socket": ours})

        assert (callers.recv(1), ours.recv(1)) == (b"", b"")


class Chunks(io.BufferedIOBase):
    """A body without a length, as servers hand over a chunked one."""

    def __init__(self, length: int, error: Exception | None = None) -> None:
        self.left, self.error = length, error

    def read(self, size: int | None = -1, /) -> bytes:
        assert size
        assert size > 0
        if self.error:
            raise self.error
        taken = min(size, self.left)
        self.left -= taken
        return b"x" * taken


def chunked(length: int, error: Exception | None = None) -> dict[str, Any]:
    return {"wsgi.input": Chunks(length, error), "CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}


@pytest.mark.usefixtures("small_bodies")
def test_a_chunked_body_passes(caller: Caller, mifos: FakeMifos) -> None:
    caller.mifos(method="POST", **chunked(100))

    assert mifos.last["body"] == b"x" * 100


@pytest.mark.usefixtures("small_bodies")
def test_a_larger_chunked_body_is_413_and_not_read_on(caller: Caller, mifos: FakeMifos) -> None:
    more = chunked(10**9)

    assert_error(caller.mifos(method="POST", **more), 413, "REQUEST_TOO_LARGE")
    assert more["wsgi.input"].left > 10**9 - 200_000


def test_a_body_that_breaks_off_is_not_forwarded(caller: Caller, mifos: FakeMifos) -> None:
    assert_error(caller.mifos(method="POST", **chunked(9, OSError("reset"))), 400, "INVALID_BODY", sent=False)
    assert not mifos.calls


def test_a_body_shorter_than_it_says_is_not_forwarded(caller: Caller, mifos: FakeMifos) -> None:
    shorter = {"wsgi.input": io.BytesIO(b"x"), "CONTENT_LENGTH": "9"}

    assert_error(caller.mifos(method="POST", **shorter), 400, "INVALID_BODY", sent=False)
    assert not mifos.calls


# -- idempotency, database, log ------------------------------------------------------------------------------------


def test_the_idempotency_key_is_the_consumers_own(caller: Caller, mifos: FakeMifos) -> None:
    keys = set()
    for one in (caller, Caller(tokens.issue("other", maker=True))):
        one.mifos(method="POST", headers={"Idempotency-Key": "k"})
        keys.add(mifos.last["headers"]["Idempotency-Key"])

    assert len(keys) == 2
    assert "k" not in keys


def test_a_raw_idempotency_key_passes(caller: Caller, mifos: FakeMifos, settings: Any) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "RAW_IDEMPOTENCY_KEYS": True}
    caller.mifos(method="POST", headers={"Idempotency-Key": "k"})

    assert mifos.last["headers"]["Idempotency-Key"] == "k"


@pytest.mark.parametrize(
    ("key", "why"), [("k" * 256, "at most 255"), ("", "not blank"), ("  ", "not blank"), ("a,b", "no comma")]
)
def test_a_bad_idempotency_key_is_400(caller: Caller, mifos: FakeMifos, key: str, why: str) -> None:
    response = caller.mifos(method="POST", headers={"Idempotency-Key": key})

    assert why in assert_error(response, 400, "INVALID_IDEMPOTENCY_KEY", sent=False)["message"]
    assert not mifos.calls


@pytest.mark.django_db(transaction=True)
def test_no_database_connection_is_held_while_mifos_is_called(
    caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(connection, "close", lambda: closed.append(len(mifos.calls)))
    caller.mifos()

    assert closed[0] == 0


def test_the_database_may_be_away(caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    def gone(digest: str) -> None:
        raise OperationalError

    caller.mifos()
    monkeypatch.setattr(memory, "_find", gone)

    assert caller.mifos().status_code == 200
    response = Caller(tokens._make()).mifos()
    assert_error(response, 503, "TOKENS_UNAVAILABLE", sent=False)
    assert response.headers["Retry-After"] == "2"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], logging.LogRecord]:
    caplog.set_level(logging.DEBUG)

    def only_line() -> logging.LogRecord:
        (record,) = [record for record in caplog.records if record.name == "gateway.access"]
        return record

    return only_line


def test_a_call_is_one_line(caller: Caller, mifos: FakeMifos, logged: Callable[[], Any]) -> None:
    caller.mifos("clients/17/accounts?fields=id", headers={"X-Request-ID": "r1"})

    line = logged()
    assert line.getMessage().startswith(
        "consumer=shop client=maker method=GET route=clients/{id}/accounts status=200 outcome=success duration_ms="
    )
    assert (line.levelname, line.request_id) == ("INFO", "r1")


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [(mifos_answer(500), "failure"), (MifosTimeout("x"), "timeout"), (MifosUnavailable("x"), "failure")],
)
def test_a_line_has_the_outcome(
    caller: Caller, mifos: FakeMifos, logged: Callable[[], Any], behaviour: Any, outcome: str
) -> None:
    mifos.behaviour = behaviour
    caller.mifos()

    assert logged().outcome == outcome


def test_a_rejected_calls_outcome_is_reject(
    caller: Caller, mifos: FakeMifos, logged: Callable[[], Any], breakers: dict[tuple[str, str], Any]
) -> None:
    breakers["maker", "get"].open()
    caller.mifos()

    assert (logged().outcome, logged().code) == ("reject", "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize(
    "target",
    [
        "clients/external-id/SECRET?x=SECRET",
        "runreports/SECRET",
        "../SECRET",
        "SECRET",
        "users/SECRET",
        "search?query=SECRET",
        "SECRET%00",
    ],
)
@pytest.mark.parametrize("behaviour", [mifos_answer(500, b"SECRET"), MifosTimeout("x")])
def test_no_line_of_any_log_holds_what_was_asked(
    caller: Caller, mifos: FakeMifos, caplog: pytest.LogCaptureFixture, target: str, behaviour: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    mifos.behaviour = behaviour
    caller.mifos(target, "POST", body=b"SECRET")

    assert caplog.records
    told = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert caller.token not in told
    assert "SECRET" not in told


def test_nor_does_the_traceback_of_a_fault_of_ours(
    caller: Caller, mifos: FakeMifos, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("SEC" + "RET")

    monkeypatch.setattr(wire, "answer", broken)
    assert_error(caller.mifos(), 500, "INTERNAL_ERROR", sent="unknown")
    assert "RuntimeError while serving GET clients" in caplog.text
    assert "in forward" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_log_that_fails_fails_no_call(caller: Caller, mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger("gateway.access"), "info", broken)
    logging.getLogger("gateway.access").setLevel(logging.INFO)

    assert caller.mifos().status_code == 200


def test_importing_code_without_the_middleware_gets_an_id_all_the_same(
    token: str, mifos: FakeMifos, settings: Any
) -> None:
    settings.MIDDLEWARE = []
    Caller(token).mifos()

    assert len(mifos.last["headers"]["X-Request-ID"]) == 32
    assert guard.current() is not None

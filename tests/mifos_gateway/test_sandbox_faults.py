"""The sandbox breaks as it was told, for those it was told about, and only as long."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mifos_gateway.sandbox.faults import Fault, Faults
from mifos_gateway.sandbox.messages import Request
from mifos_gateway.sandbox.server import Sandbox
from mifos_gateway.sandbox.values import BadValue
from tests.mifos_gateway.sandbox_http import Caller, Reply

REPAY = "loans/3/transactions?command=repayment"
FIVE = {"transactionAmount": 5}
API = "/fineract-provider/api/v1/"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(port=0) as running:
        yield running


@pytest.fixture
def call(sandbox: Sandbox) -> Caller:
    return Caller(sandbox)


@contextmanager
def asking(call: Caller, *args: Any, **options: Any) -> Iterator[list[Reply | Exception]]:
    """A call in the background; what came of it is in the list when the block is left."""
    outcome: list[Reply | Exception] = []

    def ask() -> None:
        try:
            outcome.append(call(*args, **options))
        except (OSError, http.client.HTTPException) as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    yield outcome
    thread.join(10)


def until_hanging(sandbox: Sandbox, count: int = 1) -> None:
    while sandbox.log.report(0)["inFlight"] < count:
        threading.Event().wait(0.005)


def test_a_remembered_request_says_which_fault_it_met(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="error", times=1)
    call("GET", "clients")
    call("GET", "clients")

    assert [row["fault"] for row in sandbox.requests()] == ["error", None]


# What each mode does


def test_error_answers_with_fineracts_500(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="error")

    reply = call("POST", REPAY, FIVE)
    assert (reply.status, reply.json["httpStatusCode"], sandbox.ledger()) == (500, "500", [])


def test_error_answers_with_the_status_body_and_headers_asked_for(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="error", status=503, body={"a": 1}, headers={"Retry-After": "7"})

    reply = call("GET", "clients")
    assert (reply.status, reply.json, reply.headers["Retry-After"]) == (503, {"a": 1}, "7")


@pytest.mark.parametrize(("status", "kind"), [(409, "application/json"), (502, "text/html"), (504, "text/html")])
def test_a_proxys_errors_are_html(sandbox: Sandbox, call: Caller, status: int, kind: str) -> None:
    sandbox.set_faults(mode="error", status=status)

    assert call("GET", "clients").headers.get_content_type() == kind


def test_rate_limit_is_429_with_retry_after(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="rate_limit", seconds=3)

    reply = call("GET", "clients")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "3")


def test_hang_says_nothing_until_it_closes(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="hang", seconds=0.05)

    with pytest.raises(http.client.RemoteDisconnected):
        call("GET", "clients")


def test_hang_ends_when_the_faults_are_cleared(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="hang")

    with asking(call, "GET", "clients") as outcome:
        until_hanging(sandbox)
        sandbox.set_faults(mode="ok")

    assert isinstance(outcome[0], http.client.RemoteDisconnected)
    assert call("GET", "clients").status == 200


def test_a_hanging_handler_ends_when_its_caller_has_gone(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="hang")

    with pytest.raises(TimeoutError):
        call("GET", "clients", timeout=0.05)

    while sandbox.log.report(0)["inFlight"]:
        threading.Event().wait(0.01)


def test_slow_gives_the_right_answer_in_the_end(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="slow", seconds=0.05)

    assert call("POST", REPAY, FIVE).status == 200
    assert len(sandbox.ledger()) == 1


def test_slow_answers_at_once_when_the_faults_are_cleared(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="slow", seconds=3600)

    with asking(call, "GET", "clients/1") as outcome:
        until_hanging(sandbox)
        sandbox.set_faults(mode="ok")

    assert isinstance(outcome[0], Reply)


@pytest.mark.parametrize("where", ["headers", "body"])
def test_drip_is_slow_and_complete(sandbox: Sandbox, call: Caller, where: str) -> None:
    whole = call("GET", "offices/1").body
    sandbox.set_faults(mode="drip", seconds=0.0001, where=where)

    assert call("GET", "offices/1").body == whole


def test_a_dripping_body_has_its_headers_at_once(sandbox: Sandbox) -> None:
    sandbox.set_faults(mode="drip", seconds=3600)

    with talking(sandbox, "GET", "offices/1") as wire:
        wire.settimeout(5)
        assert received_until(wire, b"\r\n\r\n").startswith(b"HTTP/1.1 401")


def test_dripping_headers_drip_from_the_first_byte(sandbox: Sandbox) -> None:
    sandbox.set_faults(mode="drip", seconds=3600, where="headers")

    with talking(sandbox, "GET", "offices/1") as wire:
        wire.settimeout(0.2)
        assert received_until(wire, b"\r\n\r\n") == b"H"


@pytest.mark.parametrize("after", ["nothing", "effect"])
def test_reset_cuts_the_connection_before_or_after_the_effect(sandbox: Sandbox, call: Caller, after: str) -> None:
    sandbox.set_faults(mode="reset", after=after)

    with pytest.raises(ConnectionResetError):
        call("POST", REPAY, FIVE)

    assert len(sandbox.ledger()) == (after == "effect")


def test_reset_may_come_in_the_middle_of_the_body(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="reset", where="body")

    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        call("GET", "clients")


# What MIFOS has done by then


def test_a_lost_answer_is_found_again_by_its_key(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="reset", after="effect", times=1)
    with pytest.raises(ConnectionResetError):
        call.keyed(REPAY, FIVE, "k")

    again = call.keyed(REPAY, FIVE, "k")

    assert (again.status, again.headers["x-served-from-cache"], len(sandbox.ledger())) == (200, "true", 1)


def test_a_burnt_key_repeats_its_500_for_ever(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="error", after="burn", status=500, body={"Exception": "once"}, times=1)

    replies = [call.keyed(REPAY, FIVE, "k") for _ in range(2)]

    assert [reply.status for reply in replies] == [500, 500]
    assert [reply.headers.get("x-served-from-cache") for reply in replies] == [None, "true"]
    assert sandbox.ledger() == []


# Whom it concerns


def test_the_maker_hangs_while_the_checker_works(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="hang", users=["maker"], methods=["GET"])

    with asking(call, "GET", "clients", user="maker") as outcome:
        until_hanging(sandbox)
        assert call("GET", "clients", user="checker").status == 200
        assert call("POST", REPAY, FIVE, user="maker").status == 200
        sandbox.set_faults(mode="ok")
    assert len(outcome) == 1


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [
        ("*", True),
        ("loans/*", True),
        ("LOANS/*", True),
        ("clients*", False),
        ("POST loans/*", True),
        ("GET loans/*", False),
        ("* loans*", True),
        ("loans/*?command=repayment", True),
        ("loans/*?command=disburse", False),
        ("loans", False),
    ],
)
def test_paths_are_patterns_behind_the_version(pattern: str, hit: bool) -> None:
    request = Request("POST", f"{API}{REPAY}")

    assert Fault.parse({"mode": "error", "paths": pattern}).fits(request) is hit


def picked(faults: Faults, count: int) -> list[bool]:
    return [faults.pick(Request("GET", f"{API}clients")) is not None for _ in range(count)]


def test_the_rate_is_random_and_the_same_in_every_run() -> None:
    runs = []
    for _ in range(2):
        faults = Faults()
        faults.set({"mode": "error", "rate": 0.4})
        runs.append(picked(faults, 1000))

    assert runs[0] == runs[1]
    assert 350 < sum(runs[0]) < 450


def test_a_fault_is_spent_after_its_times() -> None:
    faults = Faults()
    faults.set({"mode": "error", "times": 2})

    assert picked(faults, 4) == [True, True, False, False]


def test_the_first_of_several_that_fits_decides() -> None:
    faults = Faults()
    faults.set([{"mode": "ok", "methods": "GET"}, {"mode": "error"}])

    assert picked(faults, 1) == [False]
    assert faults.pick(Request("POST", f"{API}clients")) is not None


def test_a_new_fault_replaces_the_one_before(sandbox: Sandbox, call: Caller) -> None:
    call("POST", "/__faults", {"mode": "hang"})
    call("POST", "/__faults", {"mode": "error", "status": 502})

    assert [fault["mode"] for fault in call("GET", "/__faults").json["faults"]] == ["error"]
    assert call("GET", "clients").status == 502


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({}, "mode"),
        ({"mode": "explode"}, "mode"),
        ({"mode": "error", "rate": 1.5}, "rate"),
        ({"mode": "error", "rate": True}, "rate"),
        ({"mode": "slow", "seconds": -1}, "seconds"),
        ({"mode": "slow", "seconds": "5"}, "seconds"),
        ({"mode": "slow", "seconds": float("nan")}, "seconds"),
        ({"mode": "error", "paths": 5}, "paths"),
        ({"mode": "error", "status": 200}, "status"),
        ({"mode": "error", "times": 1.5}, "times"),
        ({"mode": "reset", "after": "lunch"}, "after"),
        ({"mode": "drip", "where": "feet"}, "where"),
        ({"mode": "error", "headers": {"A": "b\r\nC: d"}}, "headers"),
        ({"mode": "error", "colour": "red"}, "colour"),
        ("error", "body"),
    ],
)
def test_a_bad_fault_is_named_and_changes_nothing(content: Any, field: str) -> None:
    faults = Faults()
    faults.set({"mode": "error"})

    with pytest.raises(BadValue) as refused:
        faults.set(content)

    assert (refused.value.field, picked(faults, 1)) == (field, [True])


def test_a_bad_fault_is_a_400_that_names_the_field(call: Caller) -> None:
    reply = call("POST", "/__faults", {"mode": "error", "rate": 7})

    assert (reply.status, reply.json["field"]) == (400, "rate")
    assert "0 to 1, not 7" in reply.json["error"]


# Many at once, and the end


def test_two_hundred_callers_hang_while_others_are_answered(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="hang", users=["maker"])
    wires = [open_wire(sandbox, "GET", "clients", "Authorization: Basic bWFrZXI6eA==") for _ in range(200)]
    until_hanging(sandbox, 200)

    assert call("GET", "clients", user="checker").status == 200
    assert call("GET", "/__requests?last=1").json["inFlight"] == 200
    for wire in wires:
        wire.close()


def test_closing_ends_what_hangs(sandbox: Sandbox, call: Caller) -> None:
    sandbox.set_faults(mode="hang")

    with asking(call, "GET", "clients") as outcome:
        until_hanging(sandbox)
        sandbox.close()

    assert isinstance(outcome[0], http.client.RemoteDisconnected)


def test_a_connection_is_kept_alive_unless_told_otherwise(sandbox: Sandbox) -> None:
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))
    for _ in range(2):
        connection.request("GET", f"{API}clients")
        connection.getresponse().read()
    kept = connection.sock is not None
    sandbox.set(keep_alive=False)
    connection.request("GET", f"{API}clients")
    connection.getresponse().read()

    assert (kept, connection.sock) == (True, None)


# The wire itself


def open_wire(sandbox: Sandbox, method: str, path: str, *headers: str) -> socket.socket:
    host, port = sandbox.url.removeprefix("http://").split(":")
    wire = socket.create_connection((host, int(port)))
    lines = [f"{method} {API}{path} HTTP/1.1", "Host: x", "Fineract-Platform-TenantId: default", *headers, "", ""]
    wire.sendall("\r\n".join(lines).encode())
    return wire


@contextmanager
def talking(sandbox: Sandbox, method: str, path: str) -> Iterator[socket.socket]:
    wire = open_wire(sandbox, method, path)
    yield wire
    wire.close()


def received_until(wire: socket.socket, end: bytes) -> bytes:
    got = b""
    while end not in got:
        try:
            part = wire.recv(4096)
        except TimeoutError:
            break
        if not part:
            break
        got += part
    return got

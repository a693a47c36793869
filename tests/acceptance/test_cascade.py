"""While every maker GET hangs and a hundred callers press, everything else answers as ever."""

import socket
from collections.abc import Callable, Iterator

import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import Crowd, Got, call, get, press
from tests.acceptance.gateway import Gateway
from tests.programs import RedisServer, wait_for

CALLERS = 100
PLACES = 24
"""Calls to MIFOS as maker at once: 3/8 of 32 threads in each of two workers."""
SOON = 0.5
"""Seconds: well under one, on a machine that also runs the callers, and delays one call, or two."""


@pytest.fixture
def pressed(
    start_gateway: Callable[..., Gateway], redis_server: RedisServer, sandbox: Sandbox
) -> Iterator[tuple[Gateway, Crowd]]:
    gateway = start_gateway(REDIS_URL=redis_server.patient_url, WEB_THREADS="32", BREAKER_TIMEOUT="60")
    for _ in range(6):  # workers' first calls pay for imports
        call(gateway, user="checker")
        get(gateway, "/admin/login/")
    # Slow and not hang, so that the test and not a time limit ends it.
    sandbox.set_faults(mode="slow", seconds=100, users=["maker"], methods=["GET"])
    crowd = press([gateway], CALLERS)
    wait_for(lambda: sandbox.log.report(0)["inFlight"] > 0, "calls hang")
    wait_for(lambda: len(crowd.answers) >= CALLERS - PLACES, "all who find no place are answered")
    yield gateway, crowd
    sandbox.set_faults(mode="ok")
    crowd.all()


def seconds_of(ask: Callable[[], Got], *, status: int = 200, times: int = 10) -> list[float]:
    """The shortest first."""
    answers = [ask() for _ in range(times)]
    assert {got.status for got in answers} == {status}
    return sorted(got.seconds for got in answers)


def test_everything_else_answers_while_a_hundred_callers_press(pressed):
    gateway, crowd = pressed

    assert seconds_of(lambda: get(gateway, "/livez"))[-3] < SOON
    assert seconds_of(lambda: get(gateway, "/readyz"))[-3] < SOON
    assert seconds_of(lambda: get(gateway, "/api/v1/circuit-breaker/status"))[-3] < SOON
    assert seconds_of(lambda: get(gateway, "/api/v1/circuit-breaker/health"))[-3] < SOON
    assert seconds_of(lambda: get(gateway, "/admin/login/"))[-3] < SOON
    assert seconds_of(lambda: call(gateway, user="checker"))[-3] < SOON
    # A hundred threads of the callers' own start at once: that, too, is in their seconds.
    assert max(got.seconds for got in list(crowd.answers)) < 10


def test_the_excess_is_rejected_at_once_and_counts_as_such(pressed, sandbox):
    gateway, crowd = pressed

    excess = list(crowd.answers)
    assert {(got.status, got.code, got.headers["retry-after"]) for got in excess} == {(503, "SERVICE_UNAVAILABLE", "1")}
    assert {(got.json["retryAfter"], got.json["sent"]) for got in excess} == {(1, False)}
    assert sandbox.log.report(0)["inFlight"] <= PLACES

    sandbox.set_faults(mode="ok")
    # Which worker takes whom is chance, so a few more may have found no place since.
    answers = crowd.all()
    passed, refused = ([got for got in answers if got.status == status] for status in (200, 503))
    assert 0 < len(passed) <= PLACES
    assert len(passed) + len(refused) == CALLERS
    entry = gateway.counted(CALLERS)
    assert (entry["state"], entry["stats"]["errorRate"]) == ("CLOSED", "0.00%")
    assert (entry["stats"]["successes"], entry["stats"]["rejects"]) == (len(passed), len(refused))


def test_silent_connections_hold_no_thread(start_gateway, redis_server):
    """gunicorn would give each of them 5 s of a thread."""
    gateway = start_gateway(REDIS_URL=redis_server.patient_url, WEB_CONCURRENCY="1", WEB_THREADS="32")
    silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(60)]

    assert seconds_of(lambda: get(gateway, "/livez"))[-1] < 4

    for connection in silent:
        connection.close()


def test_places_are_free_again_when_the_calls_have_timed_out(start_gateway, redis_server, sandbox):
    gateway = start_gateway(
        REDIS_URL=redis_server.patient_url, BREAKER_TIMEOUT="0.5", BREAKER_VOLUME_THRESHOLD="1000", WEB_CONCURRENCY="1"
    )
    sandbox.set_faults(mode="hang", users=["maker"])
    first = press([gateway], 20).all()
    sandbox.set_faults(mode="ok")

    assert {got.status for got in first} == {503, 504}
    assert [got.status for got in first].count(504) == 3
    assert {got.status for got in press([gateway], 3).all()} == {200}

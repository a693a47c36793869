"""Two gateways of two workers each on one Redis: one state, one trial, one operator's word."""

import json
import re
from collections.abc import Callable

import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import call, get, press
from tests.acceptance.gateway import Gateway
from tests.programs import RedisServer, wait_for

GET = "MIFOS-Maker-get"


@pytest.fixture
def two_gateways(start_gateway: Callable[..., Gateway], redis_server: RedisServer) -> Callable[..., list[Gateway]]:
    def start(**environ: str) -> list[Gateway]:
        environ = {
            "REDIS_URL": redis_server.patient_url,
            "DJANGO_SECRET_KEY": "s" * 60,
            "BREAKER_RESET_TIMEOUT": "60",
            "GATEWAY_BULKHEAD": "8",  # on a busy machine a quick answer may be slow, and none is to be turned away
        } | environ
        return [start_gateway(**environ) for _ in range(2)]

    return start


def entry(gateway: Gateway) -> dict:
    return gateway.status()["maker"]["get"]


def fail_five_times(gateway: Gateway, sandbox: Sandbox) -> None:
    sandbox.set_faults(mode="error")
    assert [call(gateway).status for _ in range(5)] == [500] * 5


def workers_of(gateway: Gateway, *, status: int) -> set[int]:
    """The workers that have answered a call so."""
    return {int(pid) for pid in re.findall(rf"\[(\d+)\] \[\w+\] gateway.access: .* status={status} ", gateway.log)}


def all_workers_have_answered(gateways: list[Gateway], *, status: int) -> bool:
    return all(workers_of(gateway, status=status) == set(gateway.workers) for gateway in gateways)


# -- one state ---------------------------------------------------------------------------------------------------------


def test_what_opens_in_one_gateway_is_open_in_the_other(two_gateways, sandbox):
    first, second = two_gateways()
    call(second, user="checker")
    fail_five_times(first, sandbox)

    second.wait_until_open()
    assert [call(second).status for _ in range(10)] == [503] * 10
    assert len([row for row in sandbox.requests() if row["user"] == "maker"]) == 5
    assert (first.log + second.log).count("Circuit breaker OPENED - MIFOS API is failing") == 1


def test_failures_in_both_gateways_add_up(two_gateways, sandbox):
    first, second = two_gateways()
    sandbox.set_faults(mode="error")

    assert [call(gateway).status for gateway in (first, second, first, second, first)] == [500] * 5

    for gateway in (first, second):
        gateway.wait_until_open()
        assert {call(gateway).status for _ in range(10)} == {503}
    assert re.search(r"OPENED .* processes=[234] hosts=1", first.log + second.log)


def test_it_is_open_after_both_were_restarted(two_gateways, sandbox):
    gateways = two_gateways()
    fail_five_times(gateways[0], sandbox)
    opened_at = entry(gateways[0])["openedAt"]
    for gateway in gateways:
        assert gateway.stop() == 0
    for gateway in gateways:
        gateway.start()

    # The very first call of each worker, before anything is known here.
    answers = press(gateways, 40).all()

    assert {got.status for got in answers} == {503}
    assert len(sandbox.requests()) == 5
    assert [(entry(gateway)["state"], entry(gateway)["openedAt"]) for gateway in gateways] == [("OPEN", opened_at)] * 2


def test_it_turns_half_open_after_a_restart_though_nobody_calls(two_gateways, sandbox):
    gateways = two_gateways(BREAKER_RESET_TIMEOUT="3")
    fail_five_times(gateways[0], sandbox)
    for gateway in gateways:
        gateway.stop()
    gateways[0].start()

    wait_for(lambda: entry(gateways[0])["state"] == "HALF_OPEN", "half-open")
    assert get(gateways[0], "/api/v1/circuit-breaker/health").status == 200


# -- one trial ---------------------------------------------------------------------------------------------------------


def test_sixty_callers_of_four_workers_make_one_trial(two_gateways, sandbox):
    gateways = two_gateways(BREAKER_RESET_TIMEOUT="2", WEB_THREADS="64")
    fail_five_times(gateways[0], sandbox)
    wait_for(lambda: entry(gateways[1])["state"] == "HALF_OPEN", "half-open")
    sandbox.set_faults(mode="slow", seconds=25)

    crowd = press(gateways, 60)
    wait_for(lambda: len(crowd.answers) == 59, "all but the trial are answered")

    assert {(got.status, got.json["sent"]) for got in crowd.answers} == {(503, False)}
    assert len(sandbox.requests()) == 5 + 1
    sandbox.set_faults(mode="ok")  # ends the wait, so the trial has its answer
    assert sorted(got.status for got in crowd.all()) == [200] + [503] * 59
    wait_for(lambda: {entry(gateway)["state"] for gateway in gateways} == {"CLOSED"}, "closed")
    assert {call(gateway).status for gateway in gateways for _ in range(5)} == {200}
    assert all_workers_have_answered(gateways, status=503)


# -- operators ---------------------------------------------------------------------------------------------------------


def test_an_operators_word_reaches_every_worker(two_gateways, sandbox):
    gateways = two_gateways()
    wait_for(lambda: {got.status for got in press(gateways, 20).all()} == {200}, "served")
    wait_for(lambda: all_workers_have_answered(gateways, status=200) or not press(gateways, 20).all(), "by all workers")
    sandbox.log.clear()

    done = gateways[0].manage(f"breaker open {GET} --reason 'planned work'")
    assert done.returncode == 0, done.stderr
    answers = press(gateways, 40).all()

    assert {got.status for got in answers} == {503}
    assert sandbox.requests() == []
    assert (entry(gateways[1])["state"], entry(gateways[1])["forced"]) == ("OPEN", "open")
    released = gateways[1].manage(f"breaker release {GET} --reason done")
    assert released.returncode == 0, released.stderr
    assert {got.status for got in press(gateways, 8).all()} == {200}


def test_the_command_shows_what_the_workers_counted(two_gateways, sandbox):
    gateways = two_gateways()
    fail_five_times(gateways[0], sandbox)
    wait_for(lambda: entry(gateways[1])["stats"]["failures"] == 5, "all is counted")

    shown = gateways[1].manage("breaker status --json")

    assert shown.returncode == 1  # one is open
    found = json.loads(shown.stdout)["maker"]["get"]
    assert (found["state"], found["stats"]["failures"]) == ("OPEN", 5)

"""Whichever worker is asked for metrics, the answer is the cluster's; and no counter ever goes back."""

import os
import signal
import time
from collections.abc import Callable

import pytest
import requests

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import call
from tests.acceptance.gateway import Gateway
from tests.programs import RedisServer, needs_program, wait_for
from tests.prometheus import Scrape, fallen, lint

HEARTBEAT = 1.0
"""Seconds that what a process has counted beside its calls may wait."""
MAKER_GET = {"breaker": "MIFOS-Maker-get", "client": "maker", "method": "get"}
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def scrape(gateway: Gateway, *, as_openmetrics: bool = False) -> Scrape:
    """By a connection of its own, so that any worker may answer."""
    answer = requests.get(f"{gateway.url}/metrics", headers=OPENMETRICS if as_openmetrics else {}, timeout=10)
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text, as_openmetrics=as_openmetrics)


def settled(gateway: Gateway, calls: int) -> Scrape:
    """Once each call is counted."""
    found = [scrape(gateway)]

    def all_counted() -> bool:
        found[0] = scrape(gateway)
        return found[0].sum("breaker_calls_total", **MAKER_GET) >= calls

    wait_for(all_counted, f"{calls} calls are counted", 10)
    return found[0]


@pytest.fixture
def pair(start_gateway: Callable[..., Gateway], own_redis: RedisServer) -> list[Gateway]:
    """Two gateways of two workers each, on a Redis that may be emptied and killed."""
    return [start_gateway(REDIS_URL=own_redis.patient_url) for _ in range(2)]


def test_every_worker_of_every_gateway_tells_what_all_have_counted(pair: list[Gateway], sandbox: Sandbox) -> None:
    for number in range(20):
        call(pair[number % 2])
    sandbox.set_faults(mode="error")
    for _ in range(3):
        call(pair[0])

    for gateway in pair:
        settled(gateway, 23)
    time.sleep(2 * HEARTBEAT)
    for _ in range(10):
        for gateway in pair:
            found = scrape(gateway)
            calls = {one.labels["outcome"]: one.value for one in found.all("breaker_calls_total", **MAKER_GET)}
            assert calls == {"success": 20, "failure": 3, "timeout": 0, "reject": 0}
            assert found.value("breaker_call_duration_seconds_count", **MAKER_GET) == 23
            assert found.value("breaker_workers") == 4
            route = {"method": "GET", "route": "api/v1/mifos/<client>/<path>"}
            assert found.value("gateway_http_requests_total", status="200", **route) == 20
            assert found.value("gateway_http_requests_total", status="500", **route) == 3


def test_no_counter_goes_back_whoever_is_killed_or_emptied(
    pair: list[Gateway], sandbox: Sandbox, own_redis: RedisServer
) -> None:
    first, second = pair
    sandbox.set_faults(mode="error")
    for _ in range(8):
        call(first)
    told = settled(first, 8)
    assert told.value("breaker_state", state="open", **MAKER_GET) == 1
    assert told.value("breaker_transitions_total", **{"from": "closed", "to": "open"}, **MAKER_GET) == 1
    time.sleep(1)  # until what was told is stored

    for worker in first.workers:
        os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(first.workers) == 2 and first._serves_or_ended(), "other workers serve")
    for gateway in pair:
        assert fallen(told, scrape(gateway)) == []

    assert second.manage("breaker reset MIFOS-Maker-get --reason test").returncode == 0
    for gateway in pair:
        assert fallen(told, scrape(gateway)) == []

    told = scrape(second)
    time.sleep(1)
    own_redis.client().flushall()
    answers = [scrape(gateway) for _ in range(5) for gateway in pair]
    for one in answers:
        missing = [key for key in told.counters() if key not in one.counters()]
        assert [key for key in fallen(told, one) if key not in missing] == []
    wait_for(lambda: not fallen(told, scrape(first)) and not fallen(told, scrape(second)), "all is told again", 10)


def test_while_redis_is_away_the_answer_is_quick_and_says_so(pair: list[Gateway], own_redis: RedisServer) -> None:
    gateway = pair[0]
    call(gateway)
    told = settled(gateway, 1)

    own_redis.kill()
    waits = []
    for _ in range(6):
        began = time.monotonic()
        found = scrape(gateway)
        waits.append(time.monotonic() - began)
    assert sorted(waits)[-2] < 2  # a busy machine delays one of them
    assert found.value("breaker_store_up") == 0
    assert found.value("breaker_state", state="closed", **MAKER_GET) == 1
    assert found.counters() == {}

    own_redis.start()
    wait_for(lambda: scrape(gateway).all("breaker_store_up")[0].value == 1, "Redis is followed again", 10)
    wait_for(lambda: not fallen(told, scrape(gateway)), "all is told again", 10)


def test_a_user_that_mifos_refuses_is_counted(
    start_gateway: Callable[..., Gateway], redis_server: RedisServer, sandbox: Sandbox
) -> None:
    gateway = start_gateway(
        REDIS_URL=redis_server.patient_url, BREAKER_NAMESPACE="refused", MIFOS_MAKER_PASSWORD="wrong"
    )
    assert call(gateway).status == 502
    counted = "gateway_mifos_credentials_rejected_total"
    wait_for(lambda: scrape(gateway).sum(counted, client="maker") == 1, "the refusal is counted", 10)


def test_a_gateway_that_is_not_public_is_open_to_the_token_alone(
    start_gateway: Callable[..., Gateway], redis_server: RedisServer
) -> None:
    token = "0123456789abcdef-metrics"
    gateway = start_gateway(
        REDIS_URL=redis_server.patient_url, METRICS_PUBLIC="false", METRICS_TOKEN=token, LOG_LEVEL="DEBUG"
    )
    url = f"{gateway.url}/metrics"
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code == 200
    assert requests.head(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code == 200
    assert token not in gateway.log


def test_promtool_has_nothing_to_complain_of(pair: list[Gateway], sandbox: Sandbox) -> None:
    promtool = needs_program("promtool")
    call(pair[0])
    settled(pair[0], 1)
    assert lint(promtool, scrape(pair[0]).text) == []
    assert scrape(pair[0], as_openmetrics=True).samples

"""A real Prometheus that watches two gateways of two workers through trouble; its seconds are half minutes.

See tests/monitoring/servers.py for what is made so quick. The breakers' own times are short by their settings.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import call
from tests.acceptance.gateway import Gateway
from tests.monitoring.files import (
    DASHBOARDS,
    Query,
    dashboard_queries,
    documented_queries,
)
from tests.monitoring.servers import Alertmanager, Prometheus
from tests.programs import RedisServer, needs_program, wait_for

TOKEN = "a-token-for-prometheus"
CLIENTS = ("maker", "checker")
TWELVE = list(itertools.product(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"), CLIENTS))
SECONDS = 30.0


@pytest.fixture(autouse=True)
def _needed() -> None:
    needs_program("prometheus")


@pytest.fixture
def pair(start_gateway: Callable[..., Gateway], own_redis: RedisServer) -> list[Gateway]:
    settings = {
        "REDIS_URL": own_redis.url,
        "BREAKER_RESET_TIMEOUT": "2",
        "BREAKER_ROLLING_COUNT_TIMEOUT": "5",
        "METRICS_PUBLIC": "false",
        "METRICS_TOKEN": TOKEN,
        "GATEWAY_DEFERRED_ROUTES": "POST loans/*",
    }
    return [start_gateway(**settings) for _ in range(2)]


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    server = Alertmanager(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """`watch(gateways, alertmanager)`: has each of them scraped at least twice."""
    started: list[Prometheus] = []

    def start(gateways: Sequence[Gateway], alertmanager: Alertmanager | None = None) -> Prometheus:
        address = alertmanager.url.removeprefix("http://") if alertmanager else None
        targets = [f"127.0.0.1:{gateway.port}" for gateway in gateways]
        prometheus = Prometheus(tmp_path, targets, token=TOKEN, alertmanager=address)
        started.append(prometheus)
        twice = f"count(count_over_time(up[1m]) >= 2 and up == 1) == {len(targets)}"
        wait_for(lambda: prometheus.query(twice), "all gateways are scraped", SECONDS)
        return prometheus

    yield start
    for prometheus in started:
        prometheus.stop()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Its files by HTTP, at this host:port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class Callers:
    """`with Callers(gateways, calls):` (method, user) again and again, one thread each."""

    def __init__(self, gateways: Sequence[Gateway], calls: Sequence[tuple[str, str]], *, pause: float = 0.3) -> None:
        self._turns, self._pause = itertools.cycle(gateways), pause
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=one) for one in calls]

    def _run(self, method: str, user: str) -> None:
        while not self._stopped.wait(self._pause):
            call(next(self._turns), "clients", method=method, user=user)

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()


def substituted(queries: Sequence[Query]) -> list[Query]:
    """As Grafana puts in its variables."""
    values = {
        "$__rate_interval": "10s",
        "$job": "mifos-gateway",
        "$client": ".*",
        "$breaker": "MIFOS-Maker-get",
    }

    def put_in(promql: str) -> str:
        for name, value in values.items():
            promql = promql.replace(name, value)
        assert "$" not in promql, promql
        return promql

    return [Query(one.where, put_in(one.promql)) for one in queries]


def fires(prometheus: Prometheus, *wanted: tuple[str, str]) -> None:
    wait_for(lambda: prometheus.firing() >= set(wanted), f"{wanted} fire", SECONDS)


def is_silent(prometheus: Prometheus, **labels: str) -> None:
    wait_for(lambda: not prometheus.firing(**labels), f"no alert fires {labels}", SECONDS)


def all_answer(prometheus: Prometheus, queries: Sequence[Query]) -> None:
    missing = list(queries)

    def none_missing() -> bool:
        missing[:] = prometheus.unanswered(missing)
        return not missing

    try:
        wait_for(none_missing, "each query has data", SECONDS)
    finally:
        assert not missing


def test_an_outage_is_one_page_and_every_panel_shows_it(
    pair: list[Gateway], sandbox: Sandbox, watch: Callable[..., Prometheus], alertmanager: Alertmanager
) -> None:
    prometheus = watch(pair, alertmanager)
    told = alertmanager.told
    queries = substituted([one for path in DASHBOARDS for one in dashboard_queries(path)] + documented_queries())
    of_the_end = [one for one in queries if 'to="closed"' in one.promql]
    with Callers(pair, TWELVE):
        all_called = "count(max without (instance) (breaker_call_duration_seconds_count) > 0) == 12"
        wait_for(lambda: prometheus.query(all_called), "all twelve breakers are called", SECONDS)
        assert prometheus.firing() == set()

        sandbox.set_faults(mode="error")
        fires(prometheus, *(("CircuitBreakerOpened", client) for client in CLIENTS))
        all_open = 'count(max without (instance) (breaker_state{state="open"}) == 1) > 6'
        wait_for(lambda: prometheus.query(all_open), "more than one breaker of each is open", SECONDS)
        all_answer(prometheus, [one for one in queries if one not in of_the_end])
        assert prometheus.firing(severity="critical") == {("CircuitBreakerOpened", client) for client in CLIENTS}

        sandbox.set_faults(mode="ok")
        is_silent(prometheus)
        all_answer(prometheus, of_the_end)
    wait_for(lambda: told.pages and told.pages[-1]["status"] == "resolved", "the pager hears of the end", SECONDS)
    assert len({page["groupKey"] for page in told.pages}) == 1
    last = [page for page in told.pages if page["status"] == "firing"][-1]
    assert {one["labels"]["client"] for one in last["alerts"]} == set(CLIENTS)
    assert {one["labels"]["alertname"] for one in last["alerts"]} == {"CircuitBreakerOpened"}


def test_trouble_that_opens_nothing_is_seen(
    start_gateway: Callable[..., Gateway], own_redis: RedisServer, sandbox: Sandbox, watch: Callable[..., Prometheus]
) -> None:
    settings = {
        "BREAKER_ERROR_THRESHOLD_PERCENTAGE": "100",
        "BREAKER_ROLLING_COUNT_TIMEOUT": "5",
        "BREAKER_OPTIONS": '{"MIFOS-Maker-put": {"timeout": 0.5}}',
        "MIFOS_CHECKER_PASSWORD": "expired",
        "WEB_THREADS": "16",
        "METRICS_PUBLIC": "false",
        "METRICS_TOKEN": TOKEN,
    }
    pair = [start_gateway(REDIS_URL=own_redis.url, **settings) for _ in range(2)]
    prometheus = watch(pair)
    sandbox.set_faults(
        {"mode": "slow", "seconds": 5.5, "methods": ["GET"], "users": ["maker"]},
        {"mode": "error", "methods": ["POST"], "users": ["maker"]},
        {"mode": "hang", "methods": ["PUT"], "users": ["maker"]},
    )
    wanted = {
        ("HighErrorRate", "maker"),  # POST
        ("FrequentTimeouts", "maker"),  # PUT
        ("HighLatency", "maker"),  # GET
        ("CallsRejected", "maker"),  # slow ones fill the bulkhead
        ("MifosCredentialsRejected", "checker"),
    }
    seen: set[tuple[str, str]] = set()

    def all_seen() -> bool:
        seen.update(prometheus.firing())
        return seen >= wanted

    users = [("GET", "maker")] * 24 + [("POST", "maker")] * 3 + [("PUT", "maker")] * 3 + [("GET", "checker")]
    with Callers(pair, users):
        wait_for(all_seen, "all of them fire", 60)
        assert not any(alert == "CircuitBreakerOpened" for alert, _ in seen)
        sandbox.set_faults(mode="ok")
    is_silent(prometheus)


def test_redis_and_gateways_that_are_away_are_told(
    pair: list[Gateway], own_redis: RedisServer, watch: Callable[..., Prometheus]
) -> None:
    prometheus = watch(pair)
    is_silent(prometheus)
    own_redis.kill()
    fires(prometheus, ("BreakerStoreLost", ""))
    own_redis.start()
    is_silent(prometheus)

    pair[0].stop()
    fires(prometheus, ("GatewayDown", ""))
    assert ("AllGatewaysDown", "") not in prometheus.firing()
    pair[1].stop()
    fires(prometheus, ("AllGatewaysDown", ""))


def test_a_breaker_without_a_client_stands_for_itself(tmp_path: Path) -> None:
    """As prometheus.yml relabels it: two breakers of one's own code that open are two alerts."""
    folder = tmp_path / "served"
    folder.mkdir()
    told = [
        f'breaker_state{{breaker="{name}",client="",method="",state="open"}} 1\n' for name in ("payments", "reports")
    ]
    told.append('gateway_mifos_credentials_rejected_total{client="maker"} 0\n')
    (folder / "metrics").write_text("".join(told))
    with serving(folder) as address:
        prometheus = Prometheus(tmp_path, [address], token=TOKEN)
        try:
            fires(prometheus, ("CircuitBreakerOpened", "payments"), ("CircuitBreakerOpened", "reports"))
            assert prometheus.query("gateway_mifos_credentials_rejected_total")[0]["metric"]["client"] == "maker"
        finally:
            prometheus.stop()

"""`/metrics`: who may, in which format, and what the gateway counts of itself."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from prometheus_client.core import GaugeMetricFamily

from breaker.engine.sync import Sync
from breaker.metrics import OPENMETRICS, TEXT
from breaker.registry import create_circuit_breaker, registry
from mifos_gateway import guard, metrics
from mifos_gateway.tallies import count_rejected_credentials
from tests.prometheus import Scrape

TOKEN = "a-token-of-the-tests"
TABLE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Sync:
    """A process without a store, whose counts are of this test alone."""
    sync = Sync(None, threads=False)
    monkeypatch.setattr(registry, "_circuits", {})
    monkeypatch.setattr(registry, "_sync", sync)
    monkeypatch.setattr(guard, "_current", None)
    return sync


@pytest.fixture(autouse=True)
def opened(settings: Any) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "METRICS_PUBLIC": True}


@pytest.fixture
def with_token(settings: Any) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "METRICS_PUBLIC": False, "METRICS_TOKEN": TOKEN}


def scrape(client: Client) -> Scrape:
    registry.sync.beat()
    return Scrape(client.get("/metrics").content.decode())


# -- who may -----------------------------------------------------------------------------------------------------------


def test_it_is_closed_unless_somebody_opens_it(client: Client, settings: Any) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "METRICS_PUBLIC": False, "METRICS_TOKEN": None}
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        assert client.get("/metrics", headers=headers).status_code == 401


@pytest.mark.usefixtures("with_token")
@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer  {TOKEN}"])
def test_the_token_opens_it(client: Client, given: str) -> None:
    assert client.get("/metrics", headers={"Authorization": given}).status_code == 200


@pytest.mark.usefixtures("with_token")
@pytest.mark.parametrize("given", ["", f"Token {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \xe9", f"Basic {TOKEN}"])
def test_without_it_the_answer_says_what_is_needed_and_not_more(client: Client, given: str) -> None:
    response = client.get("/metrics", headers={"Authorization": given})
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    body = response.json()
    assert set(body) == {"success", "code", "message", "requestId"}
    assert (body["code"], response.headers["X-Gateway-Error"]) == ("NOT_AUTHENTICATED", "NOT_AUTHENTICATED")
    assert TOKEN not in response.content.decode()


@pytest.mark.usefixtures("with_token")
def test_the_token_stands_in_no_log_and_no_representation(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    from mifos_gateway import conf

    client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}x"})
    assert TOKEN not in caplog.text + repr(conf.gateway())


def test_prometheus_may_ask_by_any_host_and_without_tls(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/metrics", headers={"Host": "10.1.2.3"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_only_read(client: Client, method: str) -> None:
    response = client.generic(method, "/metrics")
    assert (response.status_code, response.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


def test_a_head_has_all_but_the_body(client: Client) -> None:
    response = client.head("/metrics")
    assert (response.status_code, response.content, response.headers["Content-Type"]) == (200, b"", TEXT)


# -- formats -----------------------------------------------------------------------------------------------------------

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text;version=2.0.0,text/plain;version=0.0.4;q=0.1", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=x", TEXT),
        ("application/openmetrics-text;q=0.1,text/plain", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
    ],
)
def test_who_asks_chooses_the_format(client: Client, accept: str, kind: str) -> None:
    response = client.get("/metrics", headers={"Accept": accept})
    assert (response.status_code, response.headers["Content-Type"]) == (200, kind)
    assert response.content.endswith(b"# EOF\n") is (kind == OPENMETRICS)


# -- what the gateway counts -------------------------------------------------------------------------------------------


def test_requests_are_counted_by_the_template_of_their_address(client: Client) -> None:
    client.get("/api/v1/circuit-breaker/SECRET-7/events")
    client.get("/api/v1/mifos/maker/clients/4711")
    client.get("/livez")
    client.get("/nothing/4711")
    client.generic("BREW", "/livez")
    found = scrape(client)
    told = {
        tuple(one.labels[name] for name in ("method", "route", "status")): one.value
        for one in found.all("gateway_http_requests_total")
    }
    assert told == {
        ("GET", "api/v1/circuit-breaker/<name>/events", "401"): 1,
        ("GET", "api/v1/mifos/<client>/<path>", "401"): 1,
        ("GET", "livez", "200"): 1,
        ("OTHER", "livez", "405"): 1,
        ("GET", "", "404"): 1,
    }
    assert "4711" not in found.text


def test_the_time_of_requests_is_a_histogram(client: Client) -> None:
    client.get("/livez")
    client.get("/livez")
    found = scrape(client)
    livez = {"method": "GET", "route": "livez"}
    assert found.value("gateway_http_request_duration_seconds_count", **livez) == 2
    assert found.value("gateway_http_request_duration_seconds_bucket", le="+Inf", **livez) == 2
    assert 0 < found.value("gateway_http_request_duration_seconds_sum", **livez) < 10


def test_refusals_of_our_users_are_counted(client: Client) -> None:
    count_rejected_credentials("checker")
    found = scrape(client)
    name = "gateway_mifos_credentials_rejected_total"
    assert [(one.labels["client"], one.value) for one in found.all(name)] == [("maker", 0), ("checker", 1)]


def test_the_build_is_told(client: Client) -> None:
    (info,) = scrape(client).all("gateway_build_info")
    assert info.value == 1
    assert re.fullmatch(r"5\.2\.\d+", info.labels["django"])
    assert set(info.labels) == {"version", "python", "django"}


def test_a_further_collector_is_told_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    class Queue:
        def collect(self) -> Iterator[Any]:
            yield GaugeMetricFamily("queue_depth", "how deep", value=3)

    monkeypatch.setattr(metrics, "collectors", list(metrics.collectors))
    metrics.register(Queue())
    assert scrape(client).value("queue_depth") == 3


# -- the table ---------------------------------------------------------------------------------------------------------


def rows() -> dict[str, tuple[str, set[str]]]:
    """Name to type and labels, as docs/metrics.md has them."""
    found: dict[str, tuple[str, set[str]]] = {}
    for section in TABLE.read_text().split("\n## ")[1:]:
        common = {"breaker", "client", "method"} if section.startswith("Breakers") else set()
        for name, kind, labels in re.findall(r"^\| `([a-z_]+)` \| (\w+) \| ([^|]*)\|", section, re.M):
            beside = set(re.findall(r"`([a-z]+)`", re.sub(r"= (`\w+`(, )?)+", "", labels)))
            found[name] = (kind, common | beside)
    return found


@pytest.mark.django_db
def test_the_table_has_a_row_for_every_metric_and_no_other(
    client: Client, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from breaker.testing import Clock, Cluster, succeed

    cluster = Cluster(0, clock=Clock())
    monkeypatch.setattr(registry, "_sync", cluster.worker())
    cluster.workers = [registry.sync]
    succeed(create_circuit_breaker(name="x").breaker)
    client.get("/livez")
    cluster.beat()
    monkeypatch.setattr("mifos_gateway.outbox.metrics.counted", lambda: ({"queued": 1}, 1.0, 0))
    told: dict[str, tuple[str, set[str]]] = {}
    for one in scrape(client).families:
        labels = set().union(*(sample.labels for sample in one.samples))
        told[one.name + ("_total" if one.type == "counter" else "")] = (one.type, labels)
    assert told == rows()

"""Cached reads with real processes: two gateways of two workers, one Redis, MIFOS failing."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import pytest
import requests

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.gateway import Gateway
from tests.programs import RedisServer, wait_for


@pytest.fixture
def serve(start_gateway: Callable[..., Gateway], redis_server: RedisServer) -> Callable[..., Gateway]:
    secret = "the same on every host, so that each can read what the others keep"

    def start(**environ: str) -> Gateway:
        given = {"GATEWAY_CACHED_ROUTES": "offices*=600,clients*=600", "DJANGO_SECRET_KEY": secret}
        return start_gateway(**{"REDIS_URL": redis_server.patient_url} | given | environ)

    return start


def read(gateway: Gateway, path: str = "offices", *, user: str = "maker", **headers: str) -> requests.Response:
    return gateway.call("GET", path, user=user, headers=headers)


def dates(gateway: Gateway) -> list[str]:
    """Every `Date` line, as it came; requests would join two."""
    raw = requests.get(
        f"{gateway.url}/api/v1/mifos/maker/offices",
        headers={"Authorization": f"Token {gateway.token}"},
        timeout=10,
        stream=True,
    ).raw
    return raw.headers.getlist("Date")


def test_an_outage_with_reads_that_go_on(serve: Callable[..., Gateway], sandbox: Sandbox) -> None:
    first, second = serve(), serve()
    asked = time.time()
    good = read(first)
    assert good.status_code == 200
    assert "X-Fallback" not in good.headers

    sandbox.set_faults(mode="error")
    answers = [read(gateway) for gateway in (first, second) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.content for answer in answers} == {good.content}
    assert {answer.headers["X-Fallback"] for answer in answers} == {"cache"}
    assert all(0 <= int(answer.headers["Age"]) <= time.time() - asked + 1 for answer in answers)
    wait_for(lambda: second.status()["maker"]["get"]["state"] == "OPEN", "the breaker opens all the same")
    assert second.status()["maker"]["get"]["stats"]["fallbacks"] > 0

    wait_for(lambda: int(read(first).headers.get("Age", 0)) >= 2, "what is kept grows old")
    (date,) = dates(first)
    assert parsedate_to_datetime(date).timestamp() <= asked + 1
    assert read(first, user="checker").status_code in (500, 503)  # what the maker has read is not the checker's
    assert read(first, "clients").status_code in (500, 503)  # nobody had read those
    assert read(first, **{"Cache-Control": "no-cache"}).status_code == 503


def test_a_write_in_one_gateway_drops_what_the_other_keeps(serve: Callable[..., Gateway], sandbox: Sandbox) -> None:
    first, second = serve(), serve()
    body = {"officeId": 1, "firstname": "Asha", "lastname": "Rao", "active": True}
    for path in ("clients", "offices"):
        assert read(second, path).status_code == 200
    assert first.call("POST", "clients", json=body).status_code == 200
    sandbox.set_faults(mode="error")
    assert read(second, "clients").status_code == 500
    assert read(second, "offices").status_code == 200


def test_a_redis_that_goes_away_fails_no_read(
    start_gateway: Callable[..., Gateway], own_redis: RedisServer, sandbox: Sandbox
) -> None:
    gateway = start_gateway(REDIS_URL=own_redis.url, GATEWAY_CACHED_ROUTES="offices=600")
    assert read(gateway).status_code == 200
    own_redis.kill()
    assert {read(gateway).status_code for _ in range(10)} == {200}
    own_redis.start()
    wait_for(lambda: gateway.status()["shared"], "the state is shared again")
    assert read(gateway).status_code == 200

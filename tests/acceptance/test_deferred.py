"""Deferred writes with real processes: gateways, runners, Redis, a database, and whoever is killed."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance import outage
from tests.acceptance.gateway import Gateway, Runner, mifos_environ
from tests.programs import PostgresServer, RedisServer, wait_for

LATER = "respond-async, wait=0"
SETTINGS = {
    "GATEWAY_DEFERRED_ROUTES": "POST loans/*",
    "GATEWAY_BULKHEAD": "8",
    "BREAKER_TIMEOUT": "1",
    "BREAKER_RESET_TIMEOUT": "1",
}
REPAYMENT = "loans/{}/transactions?command=repayment"


def a_seed() -> int:
    """By chance, or `OUTAGE_SEED=7 make test ARGS=tests/acceptance/test_deferred.py`."""
    return int(os.environ.get("OUTAGE_SEED") or int.from_bytes(os.urandom(3)))


# -- whoever is killed -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(2 * outage.PATIENCE + 120)
@pytest.mark.parametrize("database", ["sqlite", "sqlite again", "postgresql"])
def test_whoever_is_killed_each_write_is_done_once_and_in_order(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("own_postgres").url if database == "postgresql" else ""
    seed = a_seed()
    print(f"OUTAGE_SEED={seed}", *outage.schedule(seed), sep="\n")
    account = outage.run(seed, tmp_path, database_url=url)
    assert account.wrong == {}, str(account)
    assert (account.accepted, account.effects) == (500, 500)


# -- what MIFOS may do to one ------------------------------------------------------------------------------------------


@pytest.fixture
def serve(start_gateway: Callable[..., Gateway], redis_server: RedisServer) -> Callable[..., Gateway]:
    def start(**environ: str) -> Gateway:
        return start_gateway(**SETTINGS | {"REDIS_URL": redis_server.patient_url} | environ)

    return start


@pytest.fixture
def run() -> Iterator[Callable[[Gateway], Runner]]:
    started: list[Runner] = []

    def start(gateway: Gateway, *words: str) -> Runner:
        started.append(Runner(gateway, *(words or ("--rate=400",))))
        return started[-1]

    yield start
    for runner in started:
        assert runner.stop() == 0, runner.log


def write(gateway: Gateway, loan: int, *, prefer: str = LATER, amount: Any = 1, note: str = "") -> requests.Response:
    body = {"transactionAmount": amount, "note": note}
    return gateway.call("POST", REPAYMENT.format(loan), json=body, headers={"Prefer": prefer})


def ask(gateway: Gateway, method: str, location: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Token {gateway.token}"}
    return requests.request(method, f"{gateway.url}{location}", headers=headers, timeout=30, **options)


def told(gateway: Gateway, location: str) -> dict[str, Any]:
    """How it stands; asked again while the database is away."""
    answers: list[requests.Response] = []

    def answers_well() -> bool:
        answers.append(ask(gateway, "GET", location))
        return answers[-1].status_code == 200

    wait_for(answers_well, f"{location} is told")
    entry: dict[str, Any] = answers[-1].json()
    return entry


def until(gateway: Gateway, location: str, status: str, seconds: float = 30) -> list[str]:
    """The outcomes of its attempts, once it is that."""
    wait_for(lambda: told(gateway, location)["status"] == status, f"{location} is {status}", seconds)
    return [attempt["outcome"] for attempt in told(gateway, location)["attempts"]]


def keys(sandbox: Sandbox) -> list[str]:
    return [row["key"] for row in sandbox.requests() if row["method"] == "POST"]


def test_a_write_whose_answer_was_lost_is_done_once(
    serve: Callable[..., Gateway], run: Callable[..., Runner], sandbox: Sandbox
) -> None:
    gateway = serve()
    sandbox.set_faults(mode="reset", after="effect", times=2)
    answer = write(gateway, 5, prefer="respond-async")
    assert (answer.status_code, answer.json()["perhapsSent"], len(sandbox.ledger())) == (202, True, 1)
    run(gateway)
    assert until(gateway, answer.headers["Location"], "delivered") == ["failed", "delivered"]
    assert (len(sandbox.ledger()), len(set(keys(sandbox)))) == (1, 1)


def test_a_write_that_takes_mifos_longer_than_its_limit_is_asked_for_until_it_is_done(
    serve: Callable[..., Gateway], run: Callable[..., Runner], sandbox: Sandbox
) -> None:
    gateway = serve()
    sandbox.set(processing_seconds=4)
    location = write(gateway, 5).headers["Location"]
    run(gateway)
    outcomes = until(gateway, location, "delivered")
    assert outcomes[0] == "timeout"
    assert outcomes[-2:] == ["processing", "delivered"]
    assert (len(sandbox.ledger()), len(set(keys(sandbox)))) == (1, 1)


def test_a_burnt_key_waits_for_somebody_who_looks_in_mifos(
    serve: Callable[..., Gateway], run: Callable[..., Runner], sandbox: Sandbox
) -> None:
    gateway = serve()
    sandbox.set_faults(mode="error", after="burn", times=1)
    location, behind = (write(gateway, 5).headers["Location"] for _ in range(2))
    run(gateway)
    assert until(gateway, location, "unknown") == ["failed", "unknown"]
    assert sandbox.ledger() == []
    refused = ask(gateway, "POST", f"{location}/retry", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "KEY_BURNT")
    assert told(gateway, behind)["status"] == "queued"
    assert ask(gateway, "POST", f"{location}/retry", json={"newKey": True}).status_code == 200
    until(gateway, location, "delivered")
    until(gateway, behind, "delivered")
    assert len(sandbox.ledger()) == 2


def test_what_mifos_rejects_holds_up_its_own_order_alone(
    serve: Callable[..., Gateway], run: Callable[..., Runner], sandbox: Sandbox
) -> None:
    gateway = serve()
    poisoned, *behind = (
        write(gateway, 5, amount=amount, note=str(amount)).headers["Location"] for amount in ("nonsense", 2, 3)
    )
    other = write(gateway, 6, note="other").headers["Location"]
    run(gateway)
    assert until(gateway, poisoned, "rejected") == ["rejected"]
    until(gateway, other, "delivered")
    assert told(gateway, poisoned)["response"]["status"] == 400
    assert [told(gateway, one)["position"] for one in behind] == [2, 3]
    directly = write(gateway, 5, prefer="")
    assert (directly.status_code, directly.json()["code"]) == (409, "DEFERRED_AHEAD")
    assert [effect["note"] for effect in sandbox.ledger()] == ["other"]

    assert ask(gateway, "DELETE", poisoned).json()["status"] == "cancelled"
    for one in behind:
        until(gateway, one, "delivered")
    assert [effect["note"] for effect in sandbox.ledger()] == ["other", "2", "3"]


def test_an_operator_lets_those_behind_a_rejected_one_go_on(
    serve: Callable[..., Gateway], run: Callable[..., Runner], sandbox: Sandbox
) -> None:
    gateway = serve()
    poisoned, behind = (write(gateway, 5, amount=amount).headers["Location"] for amount in ("nonsense", 2))
    run(gateway)
    until(gateway, poisoned, "rejected")
    code = "from mifos_gateway.models import DeferredRequest as D; from mifos_gateway.outbox import desk; "
    code += f"desk.release(D.objects.get(uid='{poisoned.rpartition('/')[2]}').pk)"
    released = gateway.manage(f'shell -v0 -c "{code}"')
    assert released.returncode == 0, released.stderr
    until(gateway, behind, "delivered")
    assert told(gateway, poisoned)["status"] == "rejected"


def test_what_is_too_late_is_not_sent(
    serve: Callable[..., Gateway], run: Callable[..., Runner], sandbox: Sandbox
) -> None:
    gateway = serve(GATEWAY_DEFERRED_ROUTES="POST loans/*=2")
    sandbox.set_faults(mode="hang")
    perhaps = write(gateway, 5, prefer="respond-async").headers["Location"]
    never = write(gateway, 6).headers["Location"]
    time.sleep(2.1)  # nobody sends yet
    sandbox.set_faults(mode="ok")
    run(gateway)
    assert until(gateway, never, "expired") == []
    assert until(gateway, perhaps, "unknown") == []
    assert sandbox.ledger() == []


# -- at once -----------------------------------------------------------------------------------------------------------


def test_a_write_is_cancelled_or_done_and_never_both(
    serve: Callable[..., Gateway], run: Callable[..., Runner], sandbox: Sandbox
) -> None:
    gateway = serve()
    sandbox.set(processing_seconds=0.02)
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda number: write(gateway, 1 + number % 50, note=f"{number:03}"), range(150))
        locations = {answer.json()["id"]: answer.headers["Location"] for answer in answers}
        newest_last = sorted(locations.values(), key=lambda location: told(gateway, location)["createdAt"])
        run(gateway)
        wait_for(sandbox.ledger, "the first is sent")
        statuses = list(threads.map(lambda location: ask(gateway, "DELETE", location).status_code, newest_last))
    ends = [told_end(gateway, location) for location in newest_last]
    assert set(zip(statuses, ends, strict=True)) == {(200, "cancelled"), (409, "delivered")}
    assert Counter(ends)["delivered"] == len(sandbox.ledger()) == len(set(keys(sandbox)))


def told_end(gateway: Gateway, location: str) -> str:
    wait_for(lambda: told(gateway, location)["status"] not in ("queued", "replaying"), f"{location} has ended")
    return str(told(gateway, location)["status"])


# -- the database ------------------------------------------------------------------------------------------------------


def restart(postgres: PostgresServer) -> None:
    postgres.kill()
    threading.Event().wait(1)
    postgres.start()


def cut_all_connections(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


@pytest.mark.parametrize("harm", [restart, cut_all_connections])
def test_a_database_that_goes_away_amid_the_sending_loses_nothing(
    harm: Callable[[PostgresServer], None],
    run: Callable[..., Runner],
    sandbox: Sandbox,
    redis_server: RedisServer,
    own_postgres: PostgresServer,
    tmp_path: Path,
) -> None:
    environ = (
        SETTINGS | mifos_environ(sandbox) | {"REDIS_URL": redis_server.patient_url, "DATABASE_URL": own_postgres.url}
    )
    gateway = Gateway(tmp_path, environ, outage.prepared(environ)[outage.CONSUMERS[0]])
    try:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda number: write(gateway, 1 + number % 20, note=f"{number}"), range(100)))
        sandbox.set(processing_seconds=0.1)
        runner = run(gateway, "--rate=400", "--threads=8")
        wait_for(lambda: len(sandbox.ledger()) >= 10, "some are sent")
        harm(own_postgres)
        ends = [told_end(gateway, answer.headers["Location"]) for answer in answers]
        assert set(ends) == {"delivered"}
        assert Counter(effect["note"] for effect in sandbox.ledger()) == {str(number): 1 for number in range(100)}
        assert "wait for the database" in runner.log
    finally:
        gateway.stop()

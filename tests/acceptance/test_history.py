"""History with real processes: stored once in the cluster, whoever is killed and whatever is away meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import call
from tests.acceptance.gateway import Gateway
from tests.programs import PostgresServer, RedisServer, wait_for


@pytest.fixture
def serve(start_gateway: Callable[..., Gateway], redis_server: RedisServer) -> Callable[..., Gateway]:
    def start(**environ: str) -> Gateway:
        return start_gateway(**{"REDIS_URL": redis_server.patient_url, "BREAKER_RESET_TIMEOUT": "1"} | environ)

    return start


def happened(redis: RedisServer) -> list[str]:
    """The revs of all transitions in Redis's stream."""
    with redis.client() as client:
        (stream,) = client.keys("breaker:1:{acceptance}:events")
        entries = [fields for _, fields in client.xrange(stream)]
    found = [{_text(name): _text(value) for name, value in fields.items()} for fields in entries]
    return [fields["rev"] for fields in found if json.loads(fields["event"])]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value


def outage(gateway: Gateway, mifos: Sandbox, *, amid: Callable[[], None] = lambda: None) -> None:
    """Open the breaker, and let it close again."""
    mifos.set_faults(mode="error")
    wait_for(lambda: call(gateway).code == "SERVICE_UNAVAILABLE", "the breaker opens")
    amid()
    mifos.set_faults(mode="ok")
    wait_for(lambda: call(gateway).status == 200, "the breaker closes")


def stored(folder: Path) -> dict[str, tuple[str, str]]:
    """From and to of what the cluster did, by its rev, as history has it."""
    asked = "SELECT rev, from_state, to_state FROM breaker_breakerevent WHERE NOT alone"
    with sqlite3.connect(folder / "db.sqlite3") as database:
        return {rev: (before, after) for rev, before, after in database.execute(asked)}


def test_each_transition_is_stored_once_whoever_is_killed(
    serve: Callable[..., Gateway], sandbox: Sandbox, redis_server: RedisServer, tmp_path: Path
) -> None:
    first, second = serve(), serve()

    def kill_somebody() -> None:
        for gateway in (first, second):
            os.kill(gateway.workers[0], signal.SIGKILL)

    for _ in range(3):
        outage(first, sandbox, amid=kill_somebody)
        wait_for(lambda: call(second).status == 200, "the other gateway follows")

    assert len(happened(redis_server)) >= 9
    try:
        wait_for(lambda: stored(tmp_path).keys() == {*happened(redis_server)}, "all is stored, and nothing else", 30)
    except pytest.fail.Exception as late:
        logs = [line for gateway in (first, second) for line in gateway.log.splitlines() if "history" in line]
        pytest.fail(f"{late}; stored: {stored(tmp_path)}; happened: {happened(redis_server)}; said: {logs}")
    rows = stored(tmp_path)
    moves = [rows[rev] for rev in happened(redis_server)]
    assert [before for before, _ in moves] == ["CLOSED", *(after for _, after in moves[:-1])]
    assert {after for _, after in moves} == {"OPEN", "HALF_OPEN", "CLOSED"}


def test_nothing_is_lost_while_the_database_is_away(
    serve: Callable[..., Gateway], sandbox: Sandbox, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    postgres = PostgresServer(tmp_path_factory.mktemp("postgres"))
    try:
        gateway = serve(DATABASE_URL=postgres.url)
        assert gateway.manage("migrate -v0").returncode == 0
        gateway._token = ""
        viewer = {"Authorization": f"Token {gateway.manage('create_consumer eye --view').stdout.split()[-1]}"}
        assert {call(gateway).status for _ in range(20)} == {200}  # by now each worker knows the token

        postgres.kill()
        outage(gateway, sandbox)
        postgres.start()

        def told() -> list[str]:
            answer = requests.get(f"{gateway.url}/api/v1/circuit-breaker/events", headers=viewer, timeout=10)
            return [event["to"] for event in answer.json()["results"]] if answer.ok else []

        wait_for(lambda: len(told()) >= 3, "the database has it", 20)
        assert told() == ["CLOSED", "HALF_OPEN", "OPEN"]
    finally:
        postgres.stop()


def test_what_was_counted_can_be_read_at_once(serve: Callable[..., Gateway], sandbox: Sandbox) -> None:
    gateway = serve()
    viewer = {"Authorization": f"Token {gateway.manage('create_consumer eye --view').stdout.split()[-1]}"}
    statuses = Counter(call(gateway).status for _ in range(20))
    sandbox.set_faults(mode="error")
    statuses += Counter(call(gateway).status for _ in range(2))
    assert statuses == {200: 20, 500: 2}
    seen: list[tuple[int, int]] = []

    def counted() -> tuple[int, int]:
        url = f"{gateway.url}/api/v1/circuit-breaker/MIFOS-Maker-get/history?from=2m"
        points = requests.get(url, headers=viewer, timeout=10).json()["results"]
        seen.append((sum(point["successes"] for point in points), sum(point["failures"] for point in points)))
        return seen[-1]

    try:
        wait_for(lambda: counted() == (20, 2), "the minute that runs is there", 10)
    except pytest.fail.Exception as late:
        pytest.fail(f"{late}; successes and failures that were: {sorted(set(seen))}")

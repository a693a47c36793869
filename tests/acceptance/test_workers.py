"""Workers come, go and are killed: with the application preloaded or not, no call is lost and each is counted once."""

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime

import psutil
import pytest

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.callers import NO_ANSWER, Load, call, press
from tests.acceptance.gateway import Gateway
from tests.programs import RedisServer, wait_for

BEAT = 0.25


@pytest.fixture
def serve(start_gateway: Callable[..., Gateway], redis_server: RedisServer) -> Callable[..., Gateway]:
    def start(**environ: str) -> Gateway:
        return start_gateway(
            **{"REDIS_URL": redis_server.patient_url, "WEB_THREADS": "16", "GATEWAY_BULKHEAD": "16"} | environ
        )

    return start


def stats(gateway: Gateway) -> dict:
    return gateway.status()["maker"]["get"]["stats"]


@pytest.mark.parametrize("preload", ["true", "false"])
def test_recycled_workers_lose_no_call_and_no_count(serve, preload):
    gateway = serve(GUNICORN_PRELOAD=preload, GUNICORN_MAX_REQUESTS="40", GUNICORN_MAX_REQUESTS_JITTER="0")
    first = set(gateway.workers)

    with Load([gateway]) as load:
        load.more(400)

    assert load.broken == []
    assert set(load.statuses) == {200}
    assert gateway.log.count("Booting worker") >= 6
    assert not first & set(gateway.workers)
    assert gateway.counted(len(load.answers))["stats"]["successes"] == len(load.answers)


@pytest.mark.parametrize("preload", ["true", "false"])
def test_workers_share_what_they_see_however_they_were_made(serve, sandbox, preload):
    gateway = serve(GUNICORN_PRELOAD=preload, BREAKER_RESET_TIMEOUT="60")
    sandbox.set_faults(mode="error")

    assert [call(gateway).status for _ in range(5)] == [500] * 5

    gateway.wait_until_open()
    assert {call(gateway).status for _ in range(30)} == {503}
    assert len(sandbox.requests()) == 5
    assert gateway.log.count("Circuit breaker OPENED") == 1


def test_a_reload_amid_calls_loses_none(serve):
    """HUP: new workers, the old ones end when their calls have."""
    gateway = serve()
    first = set(gateway.workers)

    with Load([gateway]) as load:
        load.more(100)
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(gateway.workers) == 2 and not first & set(gateway.workers), "new workers serve")
        load.more(100)

    assert load.broken == []
    assert set(load.statuses) == {200}
    gateway.counted(len(load.answers))


def test_a_gateway_that_stops_finishes_its_calls(serve, sandbox):
    gateway = serve()
    sandbox.set_faults(mode="slow", seconds=1.5)
    crowd = press([gateway], 6)
    wait_for(lambda: sandbox.log.report(0)["inFlight"] == 6, "six calls run")

    assert gateway.stop() == 0

    assert [got.status for got in crowd.all()] == [200] * 6


def served_since(gateway: Gateway, pid: int, moment: float) -> int:
    """Calls of a worker after some moment, by the access log."""
    lines = [line for line in gateway.log.splitlines() if f"[{pid}]" in line and "gateway.access" in line]
    return sum(datetime.fromisoformat(line.split()[0]).timestamp() > moment for line in lines)


def test_a_killed_worker_loses_the_counts_of_a_beat_at_most(serve):
    gateway = serve()
    with Load([gateway]) as load:
        load.more(200)
        victim = gateway.workers[0]
        os.kill(victim, signal.SIGKILL)
        killed_at = time.time()
        load.more(100)

    broken, answered = len(load.broken), load.statuses[200]
    assert set(load.statuses) <= {200, NO_ANSWER}
    assert broken <= 4  # those that it was serving
    time.sleep(2 * BEAT)
    lost = answered - stats(gateway)["fires"]
    # A call that broke may have been counted before its answer was sent.
    assert -broken <= lost <= served_since(gateway, victim, killed_at - BEAT - 0.1)


def test_a_killed_worker_on_trial_holds_recovery_up_for_two_seconds(serve, sandbox):
    gateway = serve(BREAKER_RESET_TIMEOUT="1", BREAKER_TIMEOUT="30")
    sandbox.set(keep_alive=False)  # so that only the trial has a connection
    sandbox.set_faults(mode="error")
    assert [call(gateway).status for _ in range(5)] == [500] * 5
    wait_for(lambda: gateway.status()["maker"]["get"]["state"] == "HALF_OPEN", "half-open")
    sandbox.log.clear()
    sandbox.set_faults(mode="hang", times=1)
    trial = press([gateway], 1)
    wait_for(lambda: len(sandbox.requests()) == 1, "the trial hangs")
    wait_for(lambda: owners(gateway, sandbox), "its owner is found")
    (owner,) = owners(gateway, sandbox)

    with Load([gateway]) as load:
        load.more(20)
        os.kill(owner, signal.SIGKILL)
        killed_at = time.time()
        wait_for(lambda: load.statuses[200] > 0, "a caller gets through")

    recovered_at = min(got.at for got in load.answers if got.status == 200)
    # Its lease ends two seconds after it was renewed last; its timeout would end after thirty.
    assert 0.5 < recovered_at - killed_at < 8
    assert trial.all()[0].status == NO_ANSWER
    assert set(load.statuses) <= {200, 503, NO_ANSWER}
    assert gateway.status()["maker"]["get"]["state"] == "CLOSED"
    assert gateway.log.count("Circuit breaker CLOSED") == 1


def owners(gateway: Gateway, sandbox: Sandbox) -> list[int]:
    """The workers that are connected to MIFOS."""
    port = int(sandbox.url.rpartition(":")[2])
    return [
        pid
        for pid in gateway.workers
        for connection in psutil.Process(pid).net_connections()
        if connection.raddr and connection.raddr.port == port and connection.status == psutil.CONN_ESTABLISHED
    ]

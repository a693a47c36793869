"""The engine in real processes over a real Redis: forks, many processes, a killed one, a Redis that hangs.

What other circuit breakers get wrong has its own place: test_peers_defects.py.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import time
from typing import Any

import pytest

from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.testing import fail, rejected, succeed
from tests.engine.processes import FOREVER, Worker, counted, traffic, until
from tests.programs import RedisServer, wait_for

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("patience")]
PROMISED = 0.1
"""Seconds that a call waits for the store at most."""


# -- forks -------------------------------------------------------------------------------------------------------------


def test_forks_amid_traffic_count_each_call_once_and_harm_no_socket(redis_server, worker, fork) -> None:
    parent = worker()

    def work() -> list[str]:
        gc.collect()  # whatever the parent's sockets' owners do when they go, they do it now
        succeed(parent.breaker, 200)
        wait_for(lambda: parent.sync.sharing, "the child follows the shared state")
        succeed(parent.breaker, 200)
        parent.sync.close()
        return parent.losses

    with traffic(parent.breaker) as made:
        children = []
        for _ in range(4):
            children.append(fork(work))
            time.sleep(0.05)
        lost_in_children = [child.result() for child in children]
        parents_process = parent.sync.process
    parent.sync.close()

    assert counted(redis_server).successes == sum(made) + 4 * 400
    assert [*lost_in_children, parent.losses] == [[]] * 5
    assert parents_process.startswith(f"{os.getpid()}-")


def test_a_child_leaves_the_parents_unsent_counts_to_the_parent(redis_server, worker, fork) -> None:
    parent = worker()
    succeed(parent.breaker, 50)

    child = fork(lambda: parent.sync.close() or parent.breaker.success_counter)

    assert child.result() == 0
    until(lambda: counted(redis_server).successes == 50, 10)


def test_a_child_follows_and_decides_like_any_process(worker, fork) -> None:
    parent = worker()

    def work() -> list[str]:
        fail(parent.breaker, 5)
        return [parent.state, *parent.kinds().elements()]

    state, *told = fork(work).result()

    assert state == "open"
    assert told.count("Transitioned") == 1
    until(lambda: parent.state == "open", 10)
    assert rejected(parent.breaker)
    assert parent.kinds()["Transitioned"] == 0


def test_a_child_of_an_open_parent_rejects_at_once(worker, fork) -> None:
    parent = worker()
    fail(parent.breaker, 5)
    assert fork(lambda: rejected(parent.breaker)).result() is True


# -- many processes ----------------------------------------------------------------------------------------------------


def test_one_of_eight_processes_tells_the_opening(redis_server, fork) -> None:
    start = multiprocessing.get_context("fork").Barrier(8)

    def work() -> list[Any]:
        worker = Worker(redis_server)
        start.wait(FOREVER)
        with contextlib.suppress(CallRejected):
            fail(worker.breaker, 5)
        until(lambda: worker.state == "open", 10)
        return [worker.kinds()["Transitioned"], worker.losses]

    told = [child.result() for child in [fork(work) for _ in range(8)]]

    assert [lost for _, lost in told] == [[]] * 8
    assert sum(transitions for transitions, _ in told) == 1


# -- owners that vanish ------------------------------------------------------------------------------------------------


def test_a_killed_process_loses_the_counts_of_a_beat_at_most(redis_server, fork) -> None:
    made = multiprocessing.get_context("fork").Array("d", 5000)

    def work() -> None:
        mine = Worker(redis_server)
        for number in range(5000):
            succeed(mine.breaker)
            made[number] = time.monotonic()
            time.sleep(0.002)

    child = fork(work)
    wait_for(lambda: made[300], "three hundred calls were made", FOREVER)
    child.signal(signal.SIGKILL)
    killed_at = time.monotonic()

    moments = [moment for moment in made if moment]
    unsent = len(moments) - counted(redis_server).successes
    assert 0 <= unsent <= len([moment for moment in moments if moment > killed_at - 0.3]) + 1


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_store_that_hangs_is_waited_for_once_and_not_long(own_redis, monkeypatch) -> None:
    monkeypatch.undo()  # with the patience that it has in service
    mine = Worker(own_redis, error_threshold_percentage=100)
    succeed(mine.breaker)

    outages = [waits_of_an_outage(mine, own_redis, number) for number in (1, 2, 3)]

    # A busy machine delays some calls of one outage, or of two.
    assert min(max(waits) for waits in outages) < PROMISED + 0.1
    assert min(sum(wait > 0.05 for wait in waits) for waits in outages) <= 1
    mine.sync.close()


def waits_of_an_outage(mine: Worker, redis: RedisServer, number: int) -> list[float]:
    """Of its forty calls, the numberth outage's; all are counted in the end."""
    redis.pause()
    try:
        waits = [until_failed(mine.breaker) for _ in range(20)]
        until(lambda: len(mine.losses) == number, 10)
        waits += [until_failed(mine.breaker) for _ in range(20)]
    finally:
        redis.resume()
    until(lambda: mine.kinds()["StoreBack"] == number, 10)
    assert len(mine.losses) == number
    until(lambda: counted(redis).failures == 40 * number, 10)
    return waits


def until_failed(breaker: SharedCircuitBreaker) -> float:
    began = time.monotonic()
    fail(breaker)
    return time.monotonic() - began

"""The engine in real processes over a real Redis: forks, hammering, killed and stopped owners of trials."""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import select
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from breaker.engine import sync
from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.engine.events import StoreLost
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Window
from breaker.engine.stores.redis import RedisStore
from breaker.engine.sync import Sync
from breaker.engine.window import Totals, total
from breaker.testing import Failure, fail, rejected, succeed
from tests.programs import RedisServer, wait_for

pytestmark = pytest.mark.timeout(60)
FOREVER = 30.0
PROMISED = 0.1
"""Seconds that a call waits for the store at most."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more processes than cores an answer may be late; that is no lost store, but in the test that is about it."""
    monkeypatch.setattr(sync, "PATIENCE", FOREVER)


def store_of(server: RedisServer) -> RedisStore:
    options: dict[str, Any] = {"socket_timeout": sync.PATIENCE, "socket_connect_timeout": sync.PATIENCE}
    return RedisStore(
        lambda: redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), **options), namespace="processes"
    )


class Worker:
    """What one process of a service has: a Sync with its threads, a breaker, and what was told here."""

    def __init__(self, server: RedisServer, **options: Any) -> None:
        self.told: list[Any] = []
        self.sync = Sync(store_of(server), tell=self.told.append)
        self.breaker = SharedCircuitBreaker("x", Policy(**options), sync=self.sync)
        self.sync.revive()
        wait_for(lambda: self.sync.sharing, "the shared state is followed", 5)

    @property
    def losses(self) -> list[str]:
        """Why the store was thought lost, each time."""
        return [event.reason for event in self.told if isinstance(event, StoreLost)]

    def kinds(self) -> Counter[str]:
        return Counter(type(event).__name__ for event in self.told)

    @property
    def state(self) -> str:
        return str(self.breaker.current_state)


class Child:
    """A fork of this process that does some work; `result()` is what that answers, as JSON."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.close(self._read)
                os.write(write, _answer_of(work))
            os._exit(0)
        os.close(write)

    def result(self, seconds: float = FOREVER) -> Any:
        said, deadline = b"", time.monotonic() + seconds
        while True:
            readable, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"the child said nothing within {seconds} s"
            piece = os.read(self._read, 65536)
            if not piece:
                break
            said += piece
        answer = json.loads(said)
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        self.signal(signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._read)


def _answer_of(work: Callable[[], Any]) -> bytes:
    try:
        return json.dumps({"answer": work()}).encode()
    except BaseException:
        return json.dumps({"error": traceback.format_exc()}).encode()


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[], Any]], Child]]:
    children: list[Child] = []

    def start(work: Callable[[], Any]) -> Child:
        children.append(Child(work))
        return children[-1]

    yield start
    for child in children:
        child.end()


@pytest.fixture
def worker(redis_server: RedisServer) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(**options: Any) -> Worker:
        made.append(Worker(redis_server, **options))
        return made[-1]

    yield make
    for each in made:
        each.sync.close()


def counted(server: RedisServer, policy: Policy | None = None) -> Totals:
    """What Redis holds of the window."""
    found = store_of(server).load(["x"], windows={"x": Window.of(policy or Policy())})
    return total(found.records["x"].tallies)


def until(is_so: Callable[[], bool], seconds: float = FOREVER) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    wait_for(is_so, "what is waited for", seconds)
    return time.monotonic() - began


@contextlib.contextmanager
def traffic(breaker: SharedCircuitBreaker, threads: int = 4) -> Iterator[list[int]]:
    """Calls from several threads while the block runs; the list says how many each has made."""
    made, stopped = [0] * threads, threading.Event()

    def press(number: int) -> None:
        while not stopped.wait(0.0005):
            succeed(breaker)
            made[number] += 1

    running = [threading.Thread(target=press, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield made
    finally:
        stopped.set()
        for thread in running:
            thread.join()


# -- forks -------------------------------------------------------------------------------------------------------------


def test_forks_amid_traffic_count_each_call_once_and_harm_no_socket(redis_server, worker, fork) -> None:
    parent = worker()

    def work() -> list[str]:
        gc.collect()  # whatever the parent's sockets' owners do when they go, they do it now
        succeed(parent.breaker, 200)
        wait_for(lambda: parent.sync.sharing, "the child follows the shared state", 5)
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
    until(lambda: counted(redis_server).successes == 50, 2)


def test_a_child_follows_and_decides_like_any_process(worker, fork) -> None:
    parent = worker()

    def work() -> list[str]:
        fail(parent.breaker, 5)
        return [parent.state, *parent.kinds().elements()]

    state, *told = fork(work).result()

    assert state == "open"
    assert told.count("Transitioned") == 1
    until(lambda: parent.state == "open", 2)
    assert rejected(parent.breaker)
    assert parent.kinds()["Transitioned"] == 0


def test_a_child_of_an_open_parent_rejects_at_once(worker, fork) -> None:
    parent = worker()
    fail(parent.breaker, 5)
    assert fork(lambda: rejected(parent.breaker)).result() is True


# -- many processes ----------------------------------------------------------------------------------------------------


def test_eight_processes_hammering_lose_no_count(redis_server, fork) -> None:
    never = {"error_threshold_percentage": 100}

    def work() -> None:
        worker = Worker(redis_server, **never)

        def hammer() -> None:
            for _ in range(100):
                succeed(worker.breaker, 3)
                fail(worker.breaker, 1)

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: worker.sync.sharing, "still shared", 5)
        worker.sync.close()

    for child in [fork(work) for _ in range(8)]:
        child.result()

    totals = counted(redis_server)
    assert (totals.successes, totals.failures) == (8 * 4 * 300, 8 * 4 * 100)


def test_one_of_eight_processes_tells_the_opening(redis_server, fork) -> None:
    start = multiprocessing.get_context("fork").Barrier(8)

    def work() -> list[Any]:
        worker = Worker(redis_server)
        start.wait(FOREVER)
        with contextlib.suppress(CallRejected):
            fail(worker.breaker, 5)
        until(lambda: worker.state == "open", 5)
        return [worker.kinds()["Transitioned"], worker.losses]

    told = [child.result() for child in [fork(work) for _ in range(8)]]

    assert [lost for _, lost in told] == [[]] * 8
    assert sum(transitions for transitions, _ in told) == 1


def test_one_trial_for_six_processes_of_ten_threads(redis_server, worker, fork) -> None:
    options = {"reset_timeout": 1, "timeout": 20}
    parent = worker(**options)
    context = multiprocessing.get_context("fork")
    start, release, admitted = context.Barrier(6 * 10), context.Event(), context.Value("i", 0)

    def trial() -> None:
        with admitted.get_lock():
            admitted.value += 1
        release.wait(FOREVER)

    def work() -> int:
        mine = Worker(redis_server, **options)
        until(lambda: mine.state == "half-open", 10)
        rejects: list[int] = []

        def press() -> None:
            start.wait(FOREVER)
            with contextlib.suppress(CallRejected):
                mine.breaker.call(trial)
                return
            rejects.append(1)

        threads = [threading.Thread(target=press) for _ in range(10)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(rejects) >= 9, "all but the trial are rejected", FOREVER)
        release.wait(FOREVER)
        for thread in threads:
            thread.join()
        until(lambda: mine.state == "closed", 5)
        return len(rejects)

    fail(parent.breaker, 5)
    children = [fork(work) for _ in range(6)]
    wait_for(lambda: admitted.value == 1, "the trial runs", FOREVER)
    until(lambda: counted(redis_server).rejects == 59, 10)
    assert admitted.value == 1
    release.set()
    assert sum(child.result() for child in children) == 59


# -- owners that vanish ------------------------------------------------------------------------------------------------


def on_trial(redis_server: RedisServer, fork: Any, outcome: Callable[[], None], **options: Any) -> Child:
    """A process whose trial runs when this returns."""
    running = multiprocessing.get_context("fork").Event()

    def work() -> str:
        mine = Worker(redis_server, **options)
        until(lambda: mine.state == "half-open", 10)

        def trial() -> None:
            running.set()
            outcome()

        with contextlib.suppress(Failure):
            mine.breaker.call(trial)
        return mine.state

    child: Child = fork(work)
    assert running.wait(FOREVER)
    return child


def test_the_trial_of_a_killed_process_blocks_for_two_seconds(redis_server, worker, fork) -> None:
    options = {"reset_timeout": 1, "timeout": 20}
    mine = worker(**options)
    fail(mine.breaker, 5)
    child = on_trial(redis_server, fork, lambda: time.sleep(FOREVER), **options)
    until(lambda: mine.state == "half-open", 5)
    time.sleep(2.5)  # longer than a lease: it is renewed while its owner lives
    assert rejected(mine.breaker)

    child.signal(signal.SIGKILL)

    assert 1.5 < until(lambda: not rejected(mine.breaker), 10) < 3
    assert mine.state == "closed"


def test_a_trial_that_slept_through_its_lease_decides_nothing(redis_server, worker, fork) -> None:
    options = {"reset_timeout": 1, "timeout": 20}
    release = multiprocessing.get_context("fork").Event()
    mine = worker(**options)
    fail(mine.breaker, 5)

    def outcome() -> None:
        release.wait(FOREVER)
        raise Failure

    child = on_trial(redis_server, fork, outcome, **options)
    child.signal(signal.SIGSTOP)
    until(lambda: not rejected(mine.breaker), 10)
    assert mine.state == "closed"

    child.signal(signal.SIGCONT)  # before the release: it may have been stopped holding that one's lock
    release.set()

    assert child.result() == "closed"
    assert mine.state == "closed"


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


def test_calls_of_eight_threads_run_side_by_side(worker) -> None:
    mine = worker()
    threads = [threading.Thread(target=mine.breaker.call, args=(time.sleep, 0.2)) for _ in range(8)]

    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 0.2 <= time.monotonic() - began < 0.5  # one after the other they would take 1.6


def test_forgotten_scripts_are_loaded_again_without_a_loss(redis_server, worker) -> None:
    mine = worker()
    with traffic(mine.breaker) as made, redis_server.client() as client:
        for _ in range(10):
            client.script_flush()
            fail(mine.breaker)
            time.sleep(0.05)
    mine.sync.close()

    totals = counted(redis_server)
    assert (totals.successes, totals.failures) == (sum(made), 10)
    assert mine.losses == []


def test_a_store_that_hangs_is_waited_for_once_and_not_long(own_redis, monkeypatch) -> None:
    monkeypatch.undo()  # with the patience that it has in service
    mine = Worker(own_redis, error_threshold_percentage=100)
    succeed(mine.breaker)

    own_redis.pause()
    try:
        waits = [until_failed(mine.breaker) for _ in range(20)]
        until(lambda: mine.losses, 3)
        waits += [until_failed(mine.breaker) for _ in range(20)]
    finally:
        own_redis.resume()

    assert max(waits) < PROMISED + 0.1  # the rest is what a busy machine may add
    assert sum(wait > 0.05 for wait in waits) <= 1
    until(lambda: mine.kinds()["StoreBack"] == 1, 5)
    assert len(mine.losses) == 1
    until(lambda: counted(own_redis).failures == 40, 2)
    mine.sync.close()


def until_failed(breaker: SharedCircuitBreaker) -> float:
    began = time.monotonic()
    fail(breaker)
    return time.monotonic() - began

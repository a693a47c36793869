"""What tests with real processes share: a process's engine, forks that answer, and what Redis has counted."""

from __future__ import annotations

import contextlib
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

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from breaker.engine import sync
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.events import StoreLost
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Window
from breaker.engine.stores.redis import RedisStore
from breaker.engine.sync import Sync
from breaker.engine.window import Totals, total
from breaker.testing import Failure, succeed
from tests.programs import RedisServer, wait_for

FOREVER = 30.0


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
        wait_for(lambda: self.sync.sharing, "the shared state is followed")

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

"""Processes whose clock is told, with Redis's: an engine without threads, which does what it is told, step by step."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from breaker.engine import desk
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.machine import Act, Action
from breaker.engine.policy import Policy
from breaker.engine.stores.redis import RedisStore
from breaker.engine.sync import Sync
from breaker.testing import fail, rejected, succeed
from tests.engine.processes import FOREVER, Child
from tests.told_time import ToldRedis, tell

EPOCH = 1_700_000_000.0
STEP = 5.0
"""Seconds of a long time that pass at once."""


class Host:
    """One process. Its methods are those of _Inside, by name."""

    def __init__(self, fork: Callable[[Callable[[], Any]], Child], clock: Any, port: int, **options: Any) -> None:
        self._line, inside = multiprocessing.Pipe()

        def work() -> None:
            host = _Inside(clock, port, options)
            while True:
                name, args = inside.recv()
                inside.send(getattr(host, name)(*args))

        self._child = fork(work)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*args: Any) -> Any:
            self._line.send((name, args))
            assert self._line.poll(FOREVER), self._child.result(0)
            return self._line.recv()

        return ask


class _Inside:
    def __init__(self, clock: Any, port: int, options: dict[str, Any]) -> None:
        self._port = port
        self.sync = Sync(
            RedisStore(self._connect, namespace="hosts"),
            monotonic=lambda: clock.value,
            wall=lambda: EPOCH + clock.value,
            threads=False,
        )
        self._breakers = {name: SharedCircuitBreaker(name, Policy(**options), sync=self.sync) for name in "xy"}

    def _connect(self) -> ToldRedis:
        return ToldRedis(port=self._port, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def beat(self) -> None:
        self.sync.beat()
        self.sync.listen(0)

    def shares(self) -> bool:
        return self.sync.sharing

    def state(self, name: str) -> str:
        return str(self._breakers[name].current_state)

    def generation(self, name: str) -> tuple[int, str]:
        snapshot = self._breakers[name].snapshot
        return snapshot.generation, snapshot.id

    def fail(self, name: str, times: int = 1) -> None:
        fail(self._breakers[name], times)

    def succeed(self, name: str, times: int = 1) -> None:
        succeed(self._breakers[name], times)

    def rejects(self, name: str) -> bool:
        return rejected(self._breakers[name])

    def act(self, name: str, action: str) -> None:
        desk.act(self.sync, name, Act(id=f"{name}-{action}", action=Action(action)), {"kind": "operation"})


class Site:
    """Hosts under one clock."""

    def __init__(self, client: ToldRedis) -> None:
        self._client = client
        self.clock = multiprocessing.Value("d", 1_000.0)
        self.hosts: list[Host] = []
        tell(client, EPOCH + self.clock.value)

    def advance(self, seconds: float) -> None:
        while seconds > 0:
            step = min(STEP, seconds) if seconds > 2 else min(0.25, seconds)
            seconds -= step
            self.clock.value += step
            tell(self._client, EPOCH + self.clock.value)
            for host in self.hosts:
                host.beat()

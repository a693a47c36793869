"""Django's side of the breakers, over a store in memory and a clock that only moves when told."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from breaker import conf, listeners, operations
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.stores.base import StoreError
from breaker.engine.stores.redis import RedisStore
from breaker.engine.sync import Sync
from breaker.registry import Labels, create_circuit_breaker, registry
from breaker.testing import Clock, Cluster, SharedMemory


class Cable:
    """The way to a store, which can be cut."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        def through(*args: Any, **kwargs: Any) -> Any:
            if self.cut:
                raise StoreError("cut")
            return method(*args, **kwargs)

        return through


class House(Cluster):
    """This process (`registry`) and another of the same cluster; the wall's clock is right, to a minute."""

    def __init__(self) -> None:
        clock = Clock()
        amid_its_minute = time.time() // 60 * 60 - 40  # so that two calls of a test are of one minute
        super().__init__(0, store=SharedMemory(clock, wall=amid_its_minute), clock=clock)
        self.cable, self.their_cable = Cable(self.store), Cable(self.store)
        self.here, self.there = self.worker(store=self.cable), self.worker(store=self.their_cable)
        self.workers = [self.here, self.there]
        self.here.tell = listeners.tell

    def elsewhere(self, name: str, **more: Any) -> SharedCircuitBreaker:
        """A breaker that only the other process has made."""
        made = SharedCircuitBreaker(name, sync=self.there, **more)
        self.beat()
        return made

    def lose_store(self) -> None:
        self.cable.cut = True
        self.advance(1.25)


@pytest.fixture(autouse=True)
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    """Its own registry for each test; what the app has made by itself stands aside."""
    made = House()
    monkeypatch.setattr(registry, "_circuits", {})
    monkeypatch.setattr(registry, "_sync", made.here)
    monkeypatch.setattr(registry, "own", set(registry.own))
    return made


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Sync:
    """Without a shared store."""
    sync = Sync(None, threads=False, tell=listeners.tell)
    monkeypatch.setattr(registry, "_sync", sync)
    return sync


@pytest.fixture
def over_redis(redis_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Sync]]:
    """This process over a real Redis, by the settings; each call is a process newly begun. No thread: beat it."""
    yield from _over(redis_server, settings, monkeypatch)


@pytest.fixture
def over_own_redis(own_redis: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Sync]]:
    """The same over a Redis that the test may kill."""
    yield from _over(own_redis, settings, monkeypatch)


def _over(server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Sync]]:
    from config.addresses import redis_cache

    settings.CACHES = {**settings.CACHES, "breaker": redis_cache(server.url, None, None)}
    begun: list[Sync] = []

    def begin() -> Sync:
        monkeypatch.setattr(registry, "_circuits", {})
        store = RedisStore(conf.redis_connector(), namespace="test")  # type: ignore[arg-type]
        begun.append(Sync(store, threads=False, tell=listeners.tell, on_lost_data=operations.apply_again))
        monkeypatch.setattr(registry, "_sync", begun[-1])
        return begun[-1]

    yield begin
    for sync in begun:
        sync.close()


@pytest.fixture
def twelve(house: House) -> dict[tuple[str, str], SharedCircuitBreaker]:
    """The breakers of a service with two users and six verbs."""
    return {
        (user, key): create_circuit_breaker(
            name=f"MIFOS-{user.capitalize()}-{key}", labels=Labels(service="MIFOS", group=user, key=key)
        ).breaker
        for user in ("maker", "checker")
        for key in ("get", "post", "put", "patch", "delete", "request")
    }

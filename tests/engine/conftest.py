"""Fixtures of tests with real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from breaker.engine import sync
from tests.engine.processes import FOREVER, Child, Worker
from tests.programs import RedisServer


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more processes than cores an answer may be late; that is no lost store, but where a test is about it."""
    monkeypatch.setattr(sync, "PATIENCE", FOREVER)


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

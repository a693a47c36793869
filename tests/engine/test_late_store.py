"""A store that is slow, and one that hangs: who waits, how long, and when it counts as lost. Real threads and time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from breaker.engine import sync as sync_module
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.policy import Policy
from breaker.engine.stores.base import Push, Pushed
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.sync import Sync
from breaker.testing import fail, succeed
from tests.programs import wait_for


class HeldStore(MemoryStore):
    """Its pushes wait while the gate is shut, as if a name look-up or the machine held them up."""

    def __init__(self) -> None:
        super().__init__(lambda: int(time.time() * 1000))
        self.gate = threading.Event()
        self.gate.set()

    def push(self, push: Push) -> Pushed:
        self.gate.wait(10)
        return super().push(push)


class Held:
    def __init__(self) -> None:
        self.store = HeldStore()
        self.told: list[Any] = []
        self.sync = Sync(self.store, tell=self.told.append)
        self.breaker = SharedCircuitBreaker("x", Policy(), sync=self.sync)
        succeed(self.breaker)
        wait_for(lambda: self.sync.sharing, "the shared state is followed")

    def failing_takes(self) -> float:
        began = time.monotonic()
        fail(self.breaker)
        return time.monotonic() - began

    @property
    def lost(self) -> bool:
        return any(type(event).__name__ == "StoreLost" for event in self.told)


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.store.gate.set()
    made.sync.close()


def test_one_call_waits_for_a_late_store_and_the_next_do_not(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "PATIENCE", 0.5)
    monkeypatch.setattr(sync_module, "STUCK", 10.0)
    held.store.gate.clear()
    first, *others = [held.failing_takes() for _ in range(10)]
    assert 0.5 <= first < 5  # the store is late by ten seconds
    assert sum(others) < 2.5  # nine waits are 4.5 s


def test_a_store_that_is_only_late_is_not_lost(held: Held) -> None:
    held.store.gate.clear()
    held.failing_takes()
    held.store.gate.set()
    wait_for(lambda: not held.sync.courier.late, "the courier has delivered")
    assert not held.lost
    assert held.sync.sharing


def test_what_came_while_it_was_late_is_judged_once_it_answers(held: Held) -> None:
    held.store.gate.clear()
    for _ in range(5):
        held.failing_takes()
    held.store.gate.set()
    wait_for(lambda: held.breaker.current_state == "open", "the failures are judged")


def test_a_store_that_hangs_is_given_up_and_the_process_guards_alone(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "STUCK", 0.3)
    held.store.gate.clear()
    for _ in range(5):
        held.failing_takes()
    wait_for(lambda: held.sync.courier.busy_for() > 0.3, "the courier is stuck")
    held.failing_takes()
    assert held.lost
    assert held.sync.lost_reason == "no answer within 0.3 s"
    assert held.breaker.current_state == "open"


def test_a_process_ends_without_a_store_that_hangs(held: Held) -> None:
    held.store.gate.clear()
    succeed(held.breaker)
    began = time.monotonic()
    held.sync.close()
    assert sync_module.PATIENCE * 0.9 < time.monotonic() - began < 5  # and not the gate's ten seconds

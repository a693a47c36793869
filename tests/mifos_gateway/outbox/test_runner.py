"""The runner in told time: when it looks, what it lets through, and when it ends. Calls end before the next look."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from mifos_gateway import guard
from mifos_gateway.errors import MifosTimeout
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import clock, delivery, desk, runner
from mifos_gateway.outbox.runner import Runner
from mifos_gateway.refusals import ServiceUnavailable
from tests.mifos_gateway.conftest import Caller, FakeMifos, mifos_answer
from tests.mifos_gateway.test_deferred import accept

pytestmark = pytest.mark.django_db
START = datetime(2026, 11, 28, 9, tzinfo=UTC)
NOW = {"Prefer": "respond-async, wait=0"}


@dataclass
class Circuit:
    """As the runner sees one: `opens` and `closes` are seconds of told time."""

    world: World
    opens: float = 0
    closes: float = 0

    policy = SimpleNamespace(timeout=30.0)

    @property
    def current_state(self) -> str:
        return "open" if self.opens <= self.world.seconds < self.closes else "closed"

    @property
    def retry_after(self) -> int:
        return max(1, int(self.closes - self.world.seconds))


@dataclass
class World:
    """Time, which passes only while the runner waits, and what happened in it."""

    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    acts: dict[float, Callable[[], Any]] = field(default_factory=dict)
    """What somebody does at a time."""
    sent_at: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds
        for at in [at for at in self.acts if at <= self.seconds]:
            self.acts.pop(at)()

    def per_second(self) -> Counter[int]:
        return Counter(int(at) for at in self.sent_at)


class Wake:
    """The event that a wait ends by."""

    def __init__(self, world: World) -> None:
        self.world, self.is_set = world, False

    def set(self) -> None:
        self.is_set = True

    def clear(self) -> None:
        self.is_set = False

    def wait(self, seconds: float) -> None:
        if not self.is_set:
            self.world.wait(seconds)


class AtOnce:
    """A pool whose calls are over when they are begun."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(call(*args))
        return future


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, mifos: FakeMifos) -> Iterator[World]:
    world = World()
    told = SimpleNamespace(monotonic=lambda: world.seconds, sleep=world.wait)
    for module in (runner, delivery):
        monkeypatch.setattr(module, "time", told)
    monkeypatch.setattr(clock, "now", world.now)
    monkeypatch.setattr(runner, "ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr(runner, "registry", SimpleNamespace(start=lambda: None, circuits={}))
    for name in guard.NAMES.values():
        runner.registry.circuits[name] = Circuit(world)  # type: ignore[assignment]
    send = mifos.send

    def sent(*args: Any, **more: Any) -> Any:
        world.sent_at.append(world.seconds)
        return send(*args, **more)

    monkeypatch.setattr(mifos, "send", sent)
    return world


@pytest.fixture
def accepted(routes: Any, caller: Caller, world: World) -> Callable[..., None]:
    def accepted(count: int = 1, target: str = "clients") -> None:
        for _ in range(count):
            assert accept(caller, target, headers=NOW).status_code == 202

    return accepted


def made(world: World, **options: Any) -> Runner:
    found = Runner(**options)
    found._wake = Wake(world)  # type: ignore[assignment]
    return found


def statuses() -> Counter[str]:
    return Counter(DeferredRequest.objects.values_list("status", flat=True))


def shut(since: float, until: float, name: str = "MIFOS-Maker-post") -> None:
    circuit: Any = runner.registry.circuits[name]
    circuit.opens, circuit.closes = since, until


# -- how often it looks ------------------------------------------------------------------------------------------------


def looks_in(world: World, seconds: float, running: Runner) -> tuple[float, float]:
    """Waits, and queries, per second."""
    before = len(world.waits)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        running.run(seconds=seconds)
    return (len(world.waits) - before) / seconds, len(queries) / seconds


def test_an_idle_one_looks_twice_a_second(world: World, routes: Any) -> None:
    looks, queries = looks_in(world, 60, made(world))
    assert looks <= 2.1
    assert queries <= 8


def test_so_does_one_that_was_at_full_speed(world: World, accepted: Callable[..., None]) -> None:
    accepted(200)
    running = made(world, rate=20, threads=50)
    running.run(seconds=60)
    assert (statuses(), running._pace.rate > 10) == ({"delivered": 200}, True)
    assert looks_in(world, 60, running)[0] <= 2.1


def test_so_does_one_whose_orders_are_all_blocked(
    world: World, accepted: Callable[..., None], mifos: FakeMifos
) -> None:
    accepted(20, "loans/5/charges")
    mifos.behaviour = mifos_answer(400, {"userMessageGlobalisationCode": "validation.msg"})
    running = made(world)
    running.run(seconds=5)
    assert looks_in(world, 60, running)[0] <= 2.1
    assert statuses() == {"rejected": 1, "queued": 19}


def test_so_does_one_whose_circuit_is_open(world: World, accepted: Callable[..., None]) -> None:
    accepted(20)
    shut(0, 1_000)
    assert looks_in(world, 60, made(world))[0] <= 2.1
    assert world.sent_at == []


# -- what it lets through ----------------------------------------------------------------------------------------------


def test_once_sends_all_that_is_due_in_order_and_ends(
    world: World, accepted: Callable[..., None], mifos: FakeMifos
) -> None:
    accepted(3, "loans/5/charges")
    accepted(2)
    assert made(world, rate=1000).run(once=True) == 5
    assert statuses() == {"delivered": 5}
    assert world.seconds < 10


def test_once_leaves_what_is_due_later(world: World, accepted: Callable[..., None], mifos: FakeMifos) -> None:
    accepted(2)
    mifos.behaviour = mifos_answer(500)
    assert made(world).run(once=True) == 0
    assert (statuses(), world.seconds < 30) == ({"queued": 2}, True)
    assert len(mifos.calls) >= 2


@pytest.mark.parametrize("rows", [0, 3])
def test_once_does_not_wait_for_a_circuit(world: World, accepted: Callable[..., None], rows: int) -> None:
    accepted(rows)
    shut(0, 1_000)
    made(world).run(once=True)
    assert (world.sent_at, world.seconds) == ([], 0)


def test_a_circuit_that_is_due_gets_one_as_its_trial(
    world: World, accepted: Callable[..., None], mifos: FakeMifos
) -> None:
    accepted(10)
    shut(0, 30)
    mifos.behaviour = ServiceUnavailable(breaker="MIFOS-Maker-post", reason="half_open", retry_after=1)
    made(world, threads=4).run(seconds=29.9)
    assert world.sent_at[0] >= 28
    assert max(world.per_second().values()) == 1


def test_a_backlog_begins_gently_when_its_circuit_has_closed(
    world: World, accepted: Callable[..., None], mifos: FakeMifos
) -> None:
    accepted(100)
    running = made(world, rate=20)
    running.run(seconds=20)
    assert running._pace.rate > 10
    since = world.seconds
    shut(since, since + 60)
    world.acts[since + 59] = lambda: accepted(100)  # and the trial was somebody else's
    world.sent_at.clear()
    shut(since, since + 59.5)
    running.run(seconds=63)
    assert world.sent_at
    assert max(world.per_second().values()) <= 3


def test_other_breakers_do_not_wait_for_it(world: World, accepted: Callable[..., None]) -> None:
    accepted(1)
    shut(0, 1_000, "MIFOS-Checker-post")
    made(world).run(once=True)
    assert statuses() == {"delivered": 1}


def test_who_fails_slows_all_down(world: World, accepted: Callable[..., None], mifos: FakeMifos) -> None:
    accepted(100)
    mifos.behaviour = MifosTimeout("slow", sent="unknown")
    made(world, rate=20).run(seconds=30)
    assert max(world.per_second().values()) <= 2


def test_no_more_are_sent_at_once_than_the_bulkhead_has_places(settings: Any, world: World) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "BULKHEAD": 3}
    assert [Runner(threads=count).threads for count in (2, 8)] == [2, 3]


# -- the database ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OperationalError("away"), InterfaceError("closed")])
def test_it_waits_for_a_database_that_is_away_ever_longer_and_goes_on(
    world: World,
    accepted: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    accepted(1)
    lease = delivery.lease

    def away(*args: Any, **more: Any) -> Any:
        if world.seconds < 120:
            raise error
        return lease(*args, **more)

    monkeypatch.setattr(delivery, "lease", away)
    made(world).run(seconds=200)
    assert world.waits[:8] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert statuses() == {"delivered": 1}
    assert "wait for the database" in caplog.text


def test_an_answer_is_worth_some_patience(
    world: World, accepted: Callable[..., None], monkeypatch: pytest.MonkeyPatch, mifos: FakeMifos
) -> None:
    accepted(1)
    settle = delivery.settle

    def away(*args: Any) -> bool:
        if world.seconds < 20:
            raise OperationalError("away")
        return settle(*args)

    monkeypatch.setattr(delivery, "settle", away)
    made(world).run(once=True)
    assert (statuses(), len(mifos.calls)) == ({"delivered": 1}, 1)


def test_what_could_not_be_recorded_is_sent_again_once_its_lease_is_over(
    world: World,
    accepted: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    mifos: FakeMifos,
    caplog: pytest.LogCaptureFixture,
) -> None:
    accepted(1)
    with monkeypatch.context() as away:
        away.setattr(delivery, "settle", lambda *_: (_ for _ in ()).throw(OperationalError("away")))
        made(world).run(seconds=30)
    assert 39 <= world.seconds <= 41
    made(world).run(seconds=10)
    keys = [call["headers"]["Idempotency-Key"] for call in mifos.calls]
    assert (len(keys), len(set(keys)), statuses()) == (2, 1, {"delivered": 1})
    assert any(
        record.levelno == logging.ERROR and "could not be dealt with" in record.message for record in caplog.records
    )


# -- its end and its housekeeping --------------------------------------------------------------------------------------


def test_it_ends_with_the_call_in_which_it_is_stopped(
    world: World, accepted: Callable[..., None], mifos: FakeMifos
) -> None:
    accepted(5)
    running = made(world)

    def stops() -> Any:
        running.stop()
        return mifos_answer()

    mifos.behaviour = stops
    assert running.run() == 1
    assert (statuses(), world.seconds) == ({"delivered": 1, "queued": 4}, 0)


def test_it_ends_at_once_when_it_is_stopped_between_two_looks(world: World, routes: Any) -> None:
    running = made(world)
    world.acts[10] = running.stop
    assert running.run() == 0
    assert world.seconds == 10


@pytest.mark.parametrize("is_away", [False, True])
def test_it_takes_no_longer_than_it_was_given(
    world: World, routes: Any, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    if is_away:
        monkeypatch.setattr(delivery, "lease", lambda *_, **__: (_ for _ in ()).throw(OperationalError("away")))
    made(world).run(seconds=20)
    assert world.seconds == 20


def test_it_recovers_and_expires_every_five_seconds_and_purges_every_hour(
    world: World, routes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[str] = Counter()
    for module, name in ((delivery, "recover"), (delivery, "expire"), (desk, "purge")):
        monkeypatch.setattr(module, name, lambda _, name=name, **more: done.update([name] if not more else []))
    monkeypatch.setattr(runner, "IDLE", 2.5)  # fewer looks
    made(world).run(seconds=3601)
    assert (done["purge"], done["expire"]) == (2, done["recover"])
    assert 650 <= done["recover"] <= 721

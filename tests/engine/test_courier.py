"""The courier: carries in order, survives what it carries, and lets nobody wait for ever."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest

from breaker.engine.courier import Courier, arrival, done
from breaker.testing import Clock, Failure
from tests.programs import wait_for


@pytest.fixture
def courier() -> Iterator[Courier]:
    made = Courier()
    made.start()
    yield made
    made.stop()


def boom() -> None:
    raise Failure("carried")


def test_it_brings_what_the_work_answers(courier: Courier) -> None:
    assert courier.carry(lambda: 7).result(5) == 7


def test_it_brings_the_error_and_carries_on(courier: Courier) -> None:
    with pytest.raises(Failure, match="carried"):
        courier.carry(boom).result(5)
    assert courier.carry(lambda: 8).result(5) == 8


def test_it_carries_in_order(courier: Courier) -> None:
    order: list[int] = []
    gate = threading.Event()
    courier.carry(lambda: gate.wait(5))
    futures = [courier.carry(lambda number=number: order.append(number)) for number in range(20)]
    gate.set()
    for future in futures:
        future.result(5)
    assert order == list(range(20))


def test_it_fulfils_a_promise_that_was_made_before(courier: Courier) -> None:
    promise: Future[int] = Future()
    assert courier.carry(lambda: 7, promise) is promise
    assert promise.result(5) == 7


def test_it_works_in_a_daemon_thread_of_its_own(courier: Courier) -> None:
    thread = courier.carry(threading.current_thread).result(5)
    assert (thread.name, thread.daemon) == ("breaker-courier", True)
    courier.start()  # a second time does nothing
    assert courier.carry(threading.current_thread).result(5) is thread


def test_work_may_be_bound_to_what_its_giver_has_at_hand() -> None:
    at_hand: ContextVar[str] = ContextVar("at_hand", default="nothing")
    courier = Courier(bind=lambda work: partial(copy_context().run, work))
    courier.start()
    token = at_hand.set("a call")
    carried = courier.carry(lambda: (threading.current_thread().name, at_hand.get()))
    at_hand.reset(token)
    assert carried.result(5) == ("breaker-courier", "a call")
    courier.stop()


def test_it_ends_when_it_is_stopped() -> None:
    courier = Courier()
    assert not courier.alive
    courier.start()
    assert courier.alive
    thread = courier.carry(threading.current_thread).result(5)
    courier.stop()
    thread.join(5)
    assert not courier.alive


def test_without_a_thread_it_works_at_once() -> None:
    courier = Courier(thread=False)
    assert courier.alive
    assert courier.carry(threading.current_thread).result(0) is threading.current_thread()
    with pytest.raises(Failure):
        courier.carry(boom).result(0)


def test_it_says_how_long_it_has_been_at_a_job() -> None:
    clock, gate, begun = Clock(), threading.Event(), threading.Event()
    courier = Courier(monotonic=clock)
    assert courier.busy_for() == 0
    courier.start()
    job = courier.carry(lambda: (begun.set(), gate.wait(5)))
    begun.wait(5)
    clock.advance(3)
    assert courier.busy_for() == 3
    gate.set()
    job.result(5)
    wait_for(lambda: courier.busy_for() == 0, "the job is over")
    courier.stop()


def test_once_it_has_delivered_it_is_late_no_more(courier: Courier) -> None:
    assert courier.late is False
    gate = threading.Event()
    job = courier.carry(lambda: gate.wait(5))
    courier.miss(job)
    assert courier.late is True
    gate.set()
    job.result(5)
    assert courier.late is False


def test_others_code_does_not_count_as_the_jobs_time() -> None:
    clock, told = Clock(), []
    courier = Courier(monotonic=clock)
    courier.start()

    def work() -> None:
        with courier.aside():
            clock.advance(3)
            told.append(courier.busy_for())
        clock.advance(1)
        told.append(courier.busy_for())

    courier.carry(work).result(5)
    courier.stop()
    assert told == [0, 1]


def test_it_survives_what_ends_a_thread(courier: Courier) -> None:
    with pytest.raises(RuntimeError, match="SystemExit in the courier"):
        courier.carry(sys.exit).result(5)
    assert courier.carry(lambda: 8).result(5) == 8


def test_what_is_done_already_has_its_value() -> None:
    assert done(7).result(0) == 7


async def test_an_event_loop_goes_on_when_the_future_arrives(courier: Courier) -> None:
    gate = threading.Event()
    future = courier.carry(lambda: gate.wait(5))
    asyncio.get_running_loop().call_soon(gate.set)  # nobody could set it if the loop were held up
    async with asyncio.timeout(2):
        await arrival(future, seconds=5)
    assert future.result(0) is True


async def test_an_event_loop_waits_no_longer_than_it_was_told() -> None:
    never: Future[Any] = Future()
    async with asyncio.timeout(5):
        await arrival(never, seconds=0.01)
    assert not never.done()


async def test_what_has_arrived_is_not_waited_for() -> None:
    await arrival(done(7), seconds=60)


def test_a_loop_that_is_closed_meanwhile_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    late: Future[int] = Future()
    asyncio.run(arrival(late, seconds=0))
    late.set_result(7)  # what a callback raises is only logged
    assert not caplog.records

"""One breaker in one process: what its options mean and what outcomes count as."""

import asyncio
import contextlib
import dataclasses
import threading
from concurrent.futures import Future
from typing import Any

import pybreaker
import pytest

from breaker.engine import desk
from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.engine.machine import Act, Action
from breaker.engine.policy import Policy
from breaker.engine.stores.base import StoreError
from breaker.engine.sync import Sync
from breaker.engine.window import Outcome
from breaker.testing import Clock, Cluster, Failure, fail, rejected, succeed


class Bench:
    """One breaker under a clock."""

    def __init__(self, **options: Any) -> None:
        traits = {key: options.pop(key) for key in ("classify", "error_filter", "is_failure") if key in options}
        self.cluster = Cluster()
        self.clock = self.cluster.clock
        self.breaker = SharedCircuitBreaker("x", Policy(**options), sync=self.cluster.workers[0], **traits)
        self.cluster.beat()

    @property
    def state(self) -> str:
        return self.breaker.current_state

    def counts(self) -> tuple[int, int, int, int]:
        totals = self.breaker._own_totals()
        return totals.successes, totals.failures, totals.timeouts, totals.rejects

    def take(self, seconds: float) -> None:
        self.breaker.call(self.clock.advance, seconds)


# -- options -----------------------------------------------------------------------------------------------------------


def test_it_opens_at_the_fifth_failure_of_five() -> None:
    bench = Bench()
    fail(bench.breaker, 4)
    assert bench.state == "closed"
    fail(bench.breaker)
    assert bench.state == "open"


def test_timeout_counts_a_longer_call_as_a_timeout_and_returns_its_answer() -> None:
    bench = Bench(timeout=5)
    assert bench.breaker.call(lambda: bench.clock.advance(5.1) or "late") == "late"
    bench.take(4.9)
    assert bench.counts() == (1, 0, 1, 0)


def test_a_failing_call_beyond_the_timeout_is_a_timeout() -> None:
    bench = Bench(timeout=5)

    def slow_failure() -> None:
        bench.clock.advance(6)
        raise Failure

    with pytest.raises(Failure):
        bench.breaker.call(slow_failure)
    assert bench.counts() == (0, 0, 1, 0)


@pytest.mark.parametrize(("threshold", "state"), [(30, "open"), (40, "closed")])
def test_error_threshold_percentage_must_be_exceeded(threshold: int, state: str) -> None:
    bench = Bench(error_threshold_percentage=threshold)
    succeed(bench.breaker, 3)
    fail(bench.breaker, 2)
    assert bench.state == state


def test_reset_timeout_is_how_long_it_stays_open() -> None:
    bench = Bench(reset_timeout=7)
    fail(bench.breaker, 5)
    bench.cluster.advance(6.75)
    assert bench.state == "open"
    bench.cluster.advance(0.25)
    assert bench.state == "half-open"


def test_rolling_count_timeout_is_how_long_failures_count() -> None:
    bench = Bench(rolling_count_timeout=10, rolling_count_buckets=10)
    fail(bench.breaker, 4)
    bench.cluster.advance(10)
    fail(bench.breaker, 4)
    assert bench.state == "closed"


@pytest.mark.parametrize(("buckets", "still_counted"), [(10, True), (1, False)])
def test_rolling_count_buckets_say_how_coarsely_the_window_moves(buckets: int, still_counted: bool) -> None:
    bench = Bench(rolling_count_timeout=10, rolling_count_buckets=buckets)
    bench.clock.advance(10 - bench.breaker.sync.now() / 1000 % 10 + 5)  # the middle of a window of one bucket
    fail(bench.breaker, 1)
    bench.cluster.advance(6)
    assert (bench.counts()[1] == 1) is still_counted


def test_volume_threshold_is_how_many_calls_it_takes() -> None:
    bench = Bench(volume_threshold=3)
    fail(bench.breaker, 2)
    assert bench.state == "closed"
    fail(bench.breaker)
    assert bench.state == "open"


@pytest.mark.parametrize("enabled", [True, False])
def test_rolling_percentiles_enabled_keeps_the_histogram(enabled: bool) -> None:
    bench = Bench(rolling_percentiles_enabled=enabled)
    bench.take(0.2)
    p99 = bench.breaker._own_totals().percentile(0.99)
    assert p99 == pytest.approx(0.2, rel=0.011) if enabled else p99 == 0


def test_enabled_false_lets_calls_pass_and_counts_them() -> None:
    bench = Bench(enabled=False)
    fail(bench.breaker, 20)
    assert (bench.state, bench.counts()) == ("closed", (0, 20, 0, 0))


def test_capacity_bounds_the_calls_in_flight() -> None:
    bench = Bench(capacity=2)

    def nested(depth: int) -> None:
        bench.breaker.call(nested, depth - 1) if depth else None

    bench.breaker.call(nested, 1)
    with pytest.raises(CallRejected) as raised:
        bench.breaker.call(nested, 2)
    assert (raised.value.reason, raised.value.retry_after) == ("capacity", 1)
    bench.breaker.call(nested, 1)  # the places were given back


def test_capacity_rejects_are_not_failures() -> None:
    bench = Bench(capacity=1)
    for _ in range(9):
        bench.breaker.call(lambda: rejected(bench.breaker))
    assert (bench.state, bench.counts()) == ("closed", (9, 0, 0, 9))


@pytest.mark.parametrize("slots", [1, 2])
def test_half_open_max_calls_are_on_trial_at_once(slots: int) -> None:
    bench = Bench(reset_timeout=1, half_open_max_calls=slots)
    fail(bench.breaker, 5)
    bench.cluster.advance(1)
    permits = [bench.breaker.admit() for _ in range(slots)]
    assert rejected(bench.breaker)
    permits[0].settle(None, None)
    assert bench.state == "closed"


# -- outcomes ----------------------------------------------------------------------------------------------------------


def test_a_return_is_a_success() -> None:
    bench = Bench()
    succeed(bench.breaker)
    assert bench.counts() == (1, 0, 0, 0)


def test_an_exception_is_a_failure_and_is_raised_unchanged() -> None:
    bench = Bench()
    error = Failure("this one")
    with pytest.raises(Failure) as raised:
        bench.breaker.call(lambda: (_ for _ in ()).throw(error))
    assert raised.value is error
    assert bench.counts() == (0, 1, 0, 0)


def test_a_timeout_error_is_a_timeout() -> None:
    bench = Bench()
    fail(bench.breaker, error=TimeoutError)
    assert bench.counts() == (0, 0, 1, 0)


def test_an_open_circuit_rejects_without_calling() -> None:
    bench = Bench()
    fail(bench.breaker, 5)
    with pytest.raises(CallRejected) as raised:
        bench.breaker.call(pytest.fail, "called")
    error = raised.value
    assert (error.code, error.sent, error.breaker) == ("SERVICE_UNAVAILABLE", False, "x")
    assert (error.reason, error.retry_after) == ("open", 60)
    assert bench.counts() == (0, 5, 0, 1)


def test_a_shared_circuit_is_turned_by_the_beat_and_by_no_call() -> None:
    bench = Bench(reset_timeout=2)
    fail(bench.breaker, 5)
    bench.clock.advance(3)
    assert rejected(bench.breaker)
    with pytest.raises(CallRejected):
        bench.breaker.admit()
    bench.cluster.beat()
    assert not rejected(bench.breaker)


def test_a_rejection_is_pybreakers_error() -> None:
    assert issubclass(CallRejected, pybreaker.CircuitBreakerError)


@pytest.mark.parametrize("error_filter", [[Failure], Failure, lambda error: isinstance(error, Failure)])
def test_a_filtered_error_counts_as_a_success(error_filter: Any) -> None:
    bench = Bench(error_filter=error_filter)
    fail(bench.breaker, 9)
    assert (bench.state, bench.counts()) == ("closed", (9, 0, 0, 0))


def test_is_failure_judges_results() -> None:
    bench = Bench(is_failure=lambda result: result == 500)
    for status in (200, 500, 500, 500, 500):
        assert bench.breaker.call(lambda status=status: status) == status
    assert (bench.state, bench.counts()) == ("open", (1, 4, 0, 0))


@dataclasses.dataclass
class Response:
    status_code: Any


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        (Failure("balance of 4711"), "Failure"),
        (TimeoutError(), "timeout"),
        (Response(503), "status 503"),
        (Response("balance of 4711"), "result"),
        (7, "result"),
    ],
)
def test_a_failure_is_remembered_in_a_word_that_holds_nobodys_data(ends: Any, kind: str) -> None:
    breaker = SharedCircuitBreaker("x", sync=Cluster().workers[0], is_failure=lambda result: result is not None)

    def call() -> Any:
        if isinstance(ends, Exception):
            raise ends
        return ends

    with contextlib.suppress(Failure, TimeoutError):
        breaker.call(call)
    succeed(breaker)
    assert [*breaker.last_errors] == [kind]


def test_the_last_five_failures_are_remembered() -> None:
    (breaker,) = Cluster().breakers(volume_threshold=100)
    fail(breaker, 3)
    fail(breaker, 4, TimeoutError)
    assert [*breaker.last_errors] == ["Failure"] + ["timeout"] * 4


def test_classify_judges_everything() -> None:
    bench = Bench(classify=lambda result, error: Outcome.TIMEOUT if error else Outcome.FAILURE)
    succeed(bench.breaker)
    fail(bench.breaker)
    assert bench.counts() == (0, 1, 1, 0)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_says_nothing_and_gives_the_trial_back(interruption: type[BaseException]) -> None:
    bench = Bench(reset_timeout=1)
    fail(bench.breaker, 5)
    bench.cluster.advance(1)
    with pytest.raises(interruption):
        bench.breaker.call(_raise, interruption)
    assert bench.counts()[:3] == (0, 5, 0)
    succeed(bench.breaker)  # the next call has the lease at once
    assert bench.state == "closed"


def _raise(error: type[BaseException]) -> None:
    raise error


# -- recovery ----------------------------------------------------------------------------------------------------------


def test_a_trials_success_closes_and_its_failure_opens_again() -> None:
    bench = Bench(reset_timeout=1)
    fail(bench.breaker, 5)
    bench.cluster.advance(1)
    fail(bench.breaker)
    assert bench.state == "open"
    bench.cluster.advance(1)
    succeed(bench.breaker)
    assert bench.state == "closed"


def test_the_window_that_decides_starts_afresh_when_it_closes() -> None:
    bench = Bench(reset_timeout=1)
    fail(bench.breaker, 5)
    bench.cluster.advance(1)
    succeed(bench.breaker)
    fail(bench.breaker, 4)
    assert (bench.state, bench.counts()[1]) == ("closed", 9)


def test_a_straggler_from_before_the_trip_decides_nothing() -> None:
    bench = Bench(reset_timeout=1)
    early, late = bench.breaker.admit(), bench.breaker.admit()
    fail(bench.breaker, 5)
    bench.cluster.advance(1)
    early.settle(None, None)
    assert bench.state == "half-open"
    succeed(bench.breaker)
    late.settle(None, Failure())
    assert (bench.state, bench.counts()[:2]) == ("closed", (2, 6))


def test_a_permit_counts_once() -> None:
    bench = Bench()
    permit = bench.breaker.admit()
    permit.settle(None, None)
    permit.settle(None, Failure())
    assert bench.counts() == (1, 0, 0, 0)


# -- pybreaker's faces -------------------------------------------------------------------------------------------------


def test_it_decorates_and_guards_blocks() -> None:
    bench = Bench()
    assert bench.breaker(lambda: "answer")() == "answer"
    with bench.breaker.calling():
        pass
    with pytest.raises(Failure), bench.breaker.calling():
        raise Failure
    assert bench.counts() == (2, 1, 0, 0)


def test_listeners_hear_calls_and_changes_and_may_fail() -> None:
    heard: list[str] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
            heard.append("before")

        def success(self, cb: Any) -> None:
            heard.append("success")
            raise RuntimeError("a listener's own fault")

        def failure(self, cb: Any, exc: Any) -> None:
            heard.append("failure")

        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            heard.append(f"{old_state.name}>{new_state.name}")

    bench = Bench(volume_threshold=2, error_threshold_percentage=40)
    bench.breaker.add_listener(Listener())
    succeed(bench.breaker)
    fail(bench.breaker)
    assert heard == ["before", "success", "before", "closed>open", "failure"]


def test_open_close_and_half_open_turn_the_circuit() -> None:
    bench = Bench()
    bench.breaker.open()
    assert bench.breaker.state.name == "open"
    bench.breaker.half_open()
    assert bench.state == "half-open"
    bench.breaker.close()
    assert bench.state == "closed"


def test_it_reads_like_pybreaker() -> None:
    bench = Bench()
    succeed(bench.breaker, 2)
    fail(bench.breaker)
    assert (bench.breaker.fail_counter, bench.breaker.success_counter, bench.breaker.fail_max) == (1, 2, 5)


def test_no_lock_is_held_over_a_call() -> None:
    bench = Bench()
    inside, leave = threading.Barrier(3), threading.Event()

    def meet() -> None:
        inside.wait(5)
        leave.wait(5)

    threads = [threading.Thread(target=bench.breaker.call, args=(meet,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(5)  # would break if the second had to wait for the first
    leave.set()
    for thread in threads:
        thread.join(5)
    assert bench.counts()[0] == 2


# -- async -------------------------------------------------------------------------------------------------------------


async def test_an_async_call_is_guarded() -> None:
    bench = Bench()

    async def answer(value: int) -> int:
        return value

    assert await bench.breaker.call_async(answer, 7) == 7
    assert bench.counts() == (1, 0, 0, 0)


async def test_an_async_call_is_cancelled_at_its_timeout() -> None:
    bench = Bench(timeout=0.05)
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(TimeoutError):
        await bench.breaker.call_async(hang)
    assert cancelled.is_set()
    assert bench.counts() == (0, 0, 1, 0)


async def test_an_open_circuit_rejects_an_async_call() -> None:
    bench = Bench(timeout=0.05)

    async def boom() -> None:
        raise Failure

    for _ in range(5):
        with pytest.raises(Failure):
            await bench.breaker.call_async(boom)
    with pytest.raises(CallRejected):
        await bench.breaker.call_async(boom)
    assert bench.counts() == (0, 5, 0, 1)


async def test_a_cancelled_async_trial_gives_its_lease_back() -> None:
    bench = Bench(reset_timeout=1)
    fail(bench.breaker, 5)
    bench.cluster.advance(1)
    trial = asyncio.create_task(bench.breaker.call_async(asyncio.sleep, 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    succeed(bench.breaker)
    assert bench.state == "closed"


# -- telling -----------------------------------------------------------------------------------------------------------


def test_rejections_are_told_once_a_second_with_how_many_were_left_out() -> None:
    bench = Bench()
    fail(bench.breaker, 5)
    for _ in range(10):
        rejected(bench.breaker)
    bench.clock.advance(1)
    rejected(bench.breaker)
    told = [event.left_out for event in bench.cluster.told if type(event).__name__ == "Rejected"]
    assert told == [0, 9]


# -- leases that come too late -----------------------------------------------------------------------------------------


class SlowLease:
    """A half-open breaker whose question for a lease stays open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = Bench(reset_timeout=1, capacity=1)
        fail(self.bench.breaker, 5)
        self.bench.cluster.advance(1)
        self.asked: Future[str | None] = Future()
        self.given_back: list[str] = []
        sync = self.bench.breaker.sync
        monkeypatch.setattr(sync.trials, "lease", lambda circuit, generation: self.asked)
        monkeypatch.setattr(sync.trials, "give_back", lambda circuit, token: self.given_back.append(token))


async def test_a_lease_granted_to_a_cancelled_caller_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowLease(monkeypatch)
    caller = asyncio.create_task(slow.bench.breaker.call_async(asyncio.sleep, 0))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    slow.asked.set_result("token")
    assert slow.given_back == ["token"]


def test_a_lease_that_comes_after_the_callers_patience_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowLease(monkeypatch)
    assert rejected(slow.bench.breaker)
    slow.asked.set_result("token")
    assert slow.given_back == ["token"]


def test_a_caller_without_a_lease_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowLease(monkeypatch)
    slow.asked.set_result(None)
    for _ in range(2):
        with pytest.raises(CallRejected) as raised:
            slow.bench.breaker.call(pytest.fail)
        assert raised.value.reason == "half_open"
        slow.bench.clock.advance(0.3)


async def test_an_async_lease_that_comes_after_the_callers_patience_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = SlowLease(monkeypatch)
    with pytest.raises(CallRejected):
        await slow.bench.breaker.call_async(asyncio.sleep, 0)
    slow.asked.set_result("token")
    assert slow.given_back == ["token"]


def test_a_late_lease_makes_no_second_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowLease(monkeypatch)
    breaker = slow.bench.breaker
    breaker.sync.local.adopt({"x": breaker.snapshot})  # known since the store was away
    assert breaker.sync.sharing
    assert rejected(breaker)


def test_a_lease_that_comes_after_a_call_has_its_own_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowLease(monkeypatch)
    breaker = slow.bench.breaker
    breaker.sync.lose("gone")
    breaker.call(slow.asked.set_result, "late")
    assert slow.given_back == ["late"]
    assert breaker.current_state == "closed"


def test_a_question_that_fails_raises_what_it_raised_and_frees_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowLease(monkeypatch)
    breaker = slow.bench.breaker
    monkeypatch.setattr(breaker.sync.trials, "lease", lambda *_: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            breaker.admit()


def test_one_call_of_a_process_asks_for_a_lease_at_a_time() -> None:
    bench = Bench(reset_timeout=1)
    fail(bench.breaker, 5)
    bench.cluster.advance(1)
    with bench.breaker._asking, pytest.raises(CallRejected) as raised:
        bench.breaker.call(pytest.fail, "called")
    assert raised.value.reason == "half_open"


async def test_one_async_call_of_a_process_asks_for_a_lease_at_a_time() -> None:
    bench = Bench(reset_timeout=1)
    fail(bench.breaker, 5)
    bench.cluster.advance(1)
    with bench.breaker._asking, pytest.raises(CallRejected) as raised:
        await bench.breaker.call_async(asyncio.sleep, 0)
    assert raised.value.reason == "half_open"


# -- what a call costs -------------------------------------------------------------------------------------------------


class Asked:
    """A breaker, and what its calls have the store do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.bench = Bench(**options)
        self.pushes: list[Any] = []
        store = self.bench.cluster.store
        push = store.push
        monkeypatch.setattr(store, "push", lambda asked: (self.pushes.append(asked), push(asked))[1])


def test_a_success_of_a_bounded_breaker_asks_the_store_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, capacity=5)
    succeed(asked.bench.breaker)
    assert not asked.pushes


def test_a_stragglers_failure_asks_the_store_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    straggler = asked.bench.breaker.admit()
    asked.bench.breaker.open()
    asked.bench.breaker.close()
    asked.pushes.clear()
    straggler.settle(None, Failure())
    assert not asked.pushes


def test_a_failure_under_an_operators_word_asks_the_store_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    desk.act(asked.bench.breaker.sync, "x", Act(id="close", action=Action.CLOSE), {})
    asked.pushes.clear()
    fail(asked.bench.breaker)
    assert not asked.pushes


def test_a_failure_of_a_disabled_breaker_asks_the_store_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, enabled=False)
    fail(asked.bench.breaker)
    assert not asked.pushes


@pytest.mark.parametrize(("waited", "revived"), [(1.0, 0), (1.25, 1)])
async def test_a_call_revives_the_threads_only_when_the_beat_is_late(
    waited: float, revived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, calls = Bench(capacity=5), []
    monkeypatch.setattr(bench.breaker.sync, "revive", lambda: calls.append(1))
    bench.clock.advance(waited)
    await bench.breaker.call_async(asyncio.sleep, 0)
    assert len(calls) == revived
    bench.breaker.admit().settle(None, None)
    assert len(calls) == 2 * revived


async def test_an_async_call_revives_the_threads() -> None:
    bench = Bench()
    bench.clock.advance(5)
    await bench.breaker.call_async(asyncio.sleep, 0)
    assert bench.breaker.sync.beat_at == bench.clock.now


# -- more of outcomes and options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [None, 5])
def test_a_call_takes_its_words_along(capacity: int | None) -> None:
    assert Bench(capacity=capacity).breaker.call(lambda one, *, two: (one, two), 1, two=2) == (1, 2)


def test_calls_that_take_too_long_open_it() -> None:
    bench = Bench(timeout=5)
    for _ in range(5):
        bench.take(6)
    assert (bench.state, bench.breaker.fail_counter) == ("open", 5)


def test_fail_counter_reads_failures_and_timeouts() -> None:
    bench = Bench()
    fail(bench.breaker, 2)
    fail(bench.breaker, 1, TimeoutError)
    assert bench.breaker.fail_counter == 3


def test_classify_judges_results() -> None:
    bench = Bench(classify=lambda result, error: Outcome.FAILURE if result == 500 else Outcome.SUCCESS)
    for status in (200, 500):
        bench.breaker.call(lambda status=status: status)
    assert bench.counts() == (1, 1, 0, 0)


async def test_is_failure_judges_async_results() -> None:
    bench = Bench(is_failure=lambda result: result == 500)
    for status in (200, 500):
        await bench.breaker.call_async(asyncio.sleep, 0, status)
    assert bench.counts() == (1, 1, 0, 0)


def test_a_block_before_an_open_circuit_is_told_why() -> None:
    bench = Bench()
    fail(bench.breaker, 5)
    with pytest.raises(CallRejected) as raised, bench.breaker.calling():
        pytest.fail("ran")
    assert raised.value.reason == "open"


def test_calls_of_a_disabled_breaker_give_back_no_place_that_they_did_not_take() -> None:
    bench = Bench(capacity=1)
    desk.act(bench.breaker.sync, "x", Act(id="off", action=Action.DISABLE), {})
    succeed(bench.breaker, 3)
    desk.act(bench.breaker.sync, "x", Act(id="on", action=Action.RESET), {})
    with bench.breaker.calling():
        assert rejected(bench.breaker)


def test_its_reset_timeout_reads_as_set() -> None:
    assert Bench(reset_timeout=7).breaker.reset_timeout == 7


def test_a_forked_childs_breaker_takes_listeners() -> None:
    bench, listener = Bench(), pybreaker.CircuitBreakerListener()
    bench.breaker.sync.after_fork()
    bench.breaker.add_listener(listener)
    assert bench.breaker.listeners == (listener,)


async def test_async_failures_that_find_the_store_gone_are_judged_here(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    async def boom() -> None:
        raise Failure

    def gone(*args: Any, **more: Any) -> Any:
        raise StoreError("gone")

    fail(bench.breaker, 4)
    monkeypatch.setattr(bench.cluster.store, "push", gone)
    with pytest.raises(Failure):
        await bench.breaker.call_async(boom)
    assert bench.state == "open"


@pytest.mark.parametrize("window", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("phase", [0.0, 0.07, 0.13, 0.19, 0.24])
def test_a_short_window_holds_the_failures_of_this_moment(window: float, phase: float) -> None:
    clock = Clock(1_000 + phase)
    breaker = SharedCircuitBreaker(
        "x", Policy(rolling_count_timeout=window), sync=Sync(None, monotonic=clock, wall=clock, threads=False)
    )
    fail(breaker, 5)
    assert breaker.current_state == "open"

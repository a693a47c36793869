"""SharedCircuitBreaker: admit, run, record, tell. The only module that knows pybreaker."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

import pybreaker

from breaker.engine import events, machine
from breaker.engine.events import Labels, complain
from breaker.engine.machine import Force, Snapshot, State
from breaker.engine.policy import Policy, check_name
from breaker.engine.sync import STALE, Sync
from breaker.engine.window import FALLBACK, Outcome, Settled, Totals

P = ParamSpec("P")
R = TypeVar("R")

ASK_AGAIN = 0.25
"""Seconds for which a process that was refused a trial's lease rejects without asking again."""

UNGUARDED = "unguarded"
"""Calls of a disabled breaker are counted as this generation's: reported like all, they open nobody's circuit."""

_SUCCESS, _FAILURE, _TIMEOUT, _REJECT = (outcome.value for outcome in Outcome)
_FAULT = "fallback fault"
_TOLD_PER_SECOND = {_FAILURE: 10, _TIMEOUT: 10, FALLBACK: 1, _FAULT: 1}
"""How many events of a kind are told a second; of rejects it is one. Transitions are all told."""
_PYBREAKER_STATE = {
    State.CLOSED: pybreaker.STATE_CLOSED,
    State.OPEN: pybreaker.STATE_OPEN,
    State.HALF_OPEN: pybreaker.STATE_HALF_OPEN,
}


class CallRejected(pybreaker.CircuitBreakerError):
    """The call was not made. Nothing of it left this process."""

    code = "SERVICE_UNAVAILABLE"
    sent = False
    rejected = True

    def __init__(self, breaker: str, reason: str, retry_after: int) -> None:
        self.breaker = breaker
        self.reason = reason
        """open, half_open (another call is on trial), capacity, or what `refuse` was given."""
        self.retry_after = retry_after
        """Seconds until it is worth trying again, at least 1."""

    def __str__(self) -> str:
        return f"{self.breaker}: call rejected ({self.reason}); try again in {self.retry_after} s"


class _View:
    """What a call reads of the circuit: one object, replaced as a whole."""

    __slots__ = ("enabled", "forced", "id", "passes", "retry_at", "state")

    def __init__(self, policy: Policy, snapshot: Snapshot, now: int) -> None:
        here = machine.standing(policy, snapshot, now)
        self.id = snapshot.id if here.enabled else UNGUARDED
        self.passes = here.passes
        self.enabled = here.enabled
        self.state = here.state
        self.forced = here.forced
        forced_open = here.forced is Force.OPEN
        self.retry_at = snapshot.force_until if forced_open else snapshot.until
        """When a rejected caller may come again, ms; None: an operator has set no end."""


class SharedCircuitBreaker(pybreaker.CircuitBreaker):
    """A pybreaker.CircuitBreaker that counts a rolling window for the whole cluster and shares its state.

    Kept of pybreaker: `call`, the decorator, `calling()`, listeners (each process tells its own of what it sees),
    CircuitBreakerError (CallRejected is one), the state names, `name`, excluded exceptions.
    Otherwise than there: no lock is held over a call; an error rate decides, not a count of consecutive failures
    (`fail_max` reads the volume threshold; `fail_counter` and `success_counter` read this process's part of the
    window and cannot be set); a failing call raises its own error, never CircuitBreakerError; `open()`, `close()` and
    `half_open()` change the state of the whole cluster; `call_async` takes coroutine functions of asyncio.

    What its timeout means: an `async def` function is cancelled at the limit. A plain function cannot be stopped from
    outside in a thread: it runs to its end, its answer is returned, and the call is counted as a timeout when it took
    longer. Hand such a function its own deadline (`breaker.policy.timeout`) to have it keep the limit.
    """

    def __init__(
        self,
        name: str,
        policy: Policy | None = None,
        *,
        sync: Sync | None = None,
        labels: Labels | None = None,
        classify: Callable[[Any, BaseException | None], Outcome] | None = None,
        error_filter: Iterable[type[BaseException]] | Callable[[BaseException], bool] | None = None,
        is_failure: Callable[[Any], bool] | None = None,
        listeners: Iterable[pybreaker.CircuitBreakerListener] = (),
    ) -> None:
        """`error_filter`: exceptions that do not count as failures, as types or a predicate. `is_failure`: results that
        do. `classify(result, error)` replaces both."""
        self.policy = policy or Policy()
        self.labels = labels or Labels()
        self.sync = sync or _alone()
        self.outcomes: deque[Settled] = deque()
        self.last_errors: deque[str] = deque(maxlen=5)
        """What the last failures here were, in a word each."""
        self.seen_open_at = float("-inf")
        self._count = self.outcomes.append
        self._monotonic = self.sync.monotonic
        self._busy_until = float("-inf")
        self._reject_told_at = float("-inf")
        self._rejects_untold = itertools.count()
        self._told: dict[str, tuple[float, int, int]] = {}
        self._make_locks()
        self._classify, self._is_failure = classify, is_failure
        self.snapshot = machine.newborn(self.sync.now())
        self._view = _View(self.policy, self.snapshot, self.sync.now())
        super().__init__(
            reset_timeout=self.policy.reset_timeout,
            exclude=_exclusions(error_filter),
            listeners=list(listeners),
            name=check_name(name),
        )
        self._settle_plainness()
        self.sync.add(self)

    def _make_locks(self) -> None:
        self._asking = threading.Lock()
        self._telling = threading.Lock()
        self._slots = threading.Semaphore(self.policy.capacity) if self.policy.capacity else None

    def after_fork(self) -> None:
        """In the child: its own locks, since another thread of the parent may have held these, and no counts."""
        self.outcomes.clear()
        self._lock = threading.RLock()
        self._busy_until = float("-inf")
        self._make_locks()

    def _settle_plainness(self) -> None:
        """Whether a call may take the short way: nobody listens, and nothing bounds or classifies it."""
        self._plain = not (self._listeners or self._classify or self._is_failure or self._slots)

    # -- state -----------------------------------------------------------------------------------------------------

    def follow(self, snapshot: Snapshot) -> None:
        """Take a new snapshot; what calls read is replaced in one step."""
        before = self.snapshot
        if before.id != snapshot.id:
            self.seen_open_at = self._monotonic()
            self._busy_until = float("-inf")
        self.snapshot = snapshot
        self._view = _View(self.policy, snapshot, self.sync.now())

    def tell_change(self, before: Snapshot) -> None:
        """Tell pybreaker's listeners that the computed state has changed, as this process sees it."""
        after = self.snapshot
        if before.state is not after.state and self._listeners:
            with self.sync.aside():
                for listener in self._listeners:
                    _spared(listener.state_change, self, _Named(before.state), _Named(after.state))

    @property  # type: ignore[misc]  # read-only here
    def state(self) -> Any:
        """An object with pybreaker's `name` of the state."""
        return _Named(self._view.state)

    @property
    def current_state(self) -> str:
        return _PYBREAKER_STATE[self._view.state]

    @property
    def retry_after(self) -> int:
        """Seconds until a rejected caller may come again, at least 1."""
        return self._seconds_left(self._view)

    def _seconds_left(self, view: _View) -> int:
        if view.retry_at is None:
            return max(1, math.ceil(self.policy.reset_timeout))
        return max(1, (view.retry_at - self.sync.now() + 999) // 1000)

    def _own_totals(self) -> Totals:
        return self.sync.link.own_totals(self)

    @property
    def fail_counter(self) -> int:
        totals = self._own_totals()
        return totals.failures + totals.timeouts

    @property
    def success_counter(self) -> int:
        return self._own_totals().successes

    @property  # type: ignore[misc]  # read-only here
    def fail_max(self) -> int:
        return self.policy.volume_threshold

    @property  # type: ignore[misc]  # read-only here
    def name(self) -> str:
        return str(self._name)

    def open(self) -> bool:
        return self.sync.turn(self, State.OPEN)

    def close(self) -> None:
        self.sync.turn(self, State.CLOSED)

    def half_open(self) -> None:
        self.sync.turn(self, State.HALF_OPEN)

    def add_listener(self, listener: Any) -> None:
        super().add_listener(listener)
        self._settle_plainness()

    def remove_listener(self, listener: Any) -> None:
        super().remove_listener(listener)
        self._settle_plainness()

    # -- calls -----------------------------------------------------------------------------------------------------

    def call(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `func` if the circuit lets it. Raises CallRejected, or what `func` raises."""
        started = self._monotonic()
        if started - self.sync.beat_at > STALE:
            self.sync.revive()
            started = self._monotonic()
        view = self._view
        if view.state is State.OPEN and not self._is_due(view):
            raise self._reject(view, "open")
        if not (view.passes and self._plain):
            return self._call_with_permit(func, args, kwargs)
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            self._wait(self._settle(view.id, None, self._monotonic() - started, None, error))
            raise
        spent = self._monotonic() - started
        if spent > self.policy.timeout or self.sync.verbose:
            self._wait(self._settle(view.id, None, spent, result, None))
        else:
            self._count((view.id, spent, _SUCCESS))
        return result

    def _call_with_permit(self, func: Callable[..., R], args: Any, kwargs: Any) -> R:
        permit = self.admit()
        try:
            self._tell_before(func, *args, **kwargs)
            result = func(*args, **kwargs)
        except BaseException as error:
            permit.settle(None, error)
            raise
        permit.settle(result, None)
        return result

    @contextlib.contextmanager
    def calling(self) -> Iterator[Permit]:
        """Guard a `with` block. Raises CallRejected before the block runs."""
        permit = self.admit()
        try:
            self._tell_before(None)
            yield permit
        except BaseException as error:
            permit.settle(None, error)
            raise
        permit.settle(None, None)

    async def call_async(self, func: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `func` if the circuit lets it; at the timeout it is cancelled and TimeoutError raised.

        The loop never waits for the shared store: the courier does, and this coroutine with it, at most PATIENCE.
        """
        permit = await self._admit_async()
        limit = self.policy.timeout if permit.enabled else None
        try:
            self._tell_before(func, *args, **kwargs)
            async with asyncio.timeout(limit):
                result = await func(*args, **kwargs)
        except BaseException as error:
            await permit.settle_async(None, error)
            raise
        await permit.settle_async(result, None)
        return result

    # -- admission -------------------------------------------------------------------------------------------------

    def admit(self) -> Permit:
        """The right to make one call, to be settled exactly once. Raises CallRejected."""
        if self._monotonic() - self.sync.beat_at > STALE:
            self.sync.revive()
        view = self._current_view()
        self._admit_at_once(view)
        if view.passes:
            return Permit(self, view, None)
        with self._asking_for_trial(view) as asked:
            token = self.sync.wait(asked) if asked is not None else None
            if token is None and asked is not None:
                token = self.sync.trials.lease_alone(self, view.id)
        return self._on_trial(view, asked, token)

    async def _admit_async(self) -> Permit:
        if self._monotonic() - self.sync.beat_at > STALE:
            await asyncio.to_thread(self.sync.revive)
        view = self._current_view()
        self._admit_at_once(view)
        if view.passes:
            return Permit(self, view, None)
        with self._asking_for_trial(view) as asked:
            token = await self.sync.wait_async(asked) if asked is not None else None
            if token is None and asked is not None:
                token = self.sync.trials.lease_alone(self, view.id)
        return self._on_trial(view, asked, token)

    def _is_due(self, view: _View) -> bool:
        """Whether an open circuit must be turned by a call: alone, the beat may hang on a store that is away."""
        return not self.sync.sharing and view.retry_at is not None and self.sync.now() >= view.retry_at

    def _current_view(self) -> _View:
        if self._view.state is State.OPEN and self._is_due(self._view):
            self.sync.turn_by_time(self)
        return self._view

    def _admit_at_once(self, view: _View) -> None:
        """What can be decided without asking anyone; takes a place where places are counted. Raises CallRejected."""
        if not view.passes and (view.state is State.OPEN or self._monotonic() < self._busy_until):
            raise self._reject(view, "open" if view.state is State.OPEN else "half_open")
        if self._slots is not None and view.enabled and not self._slots.acquire(blocking=False):
            raise self._reject(view, "capacity")

    @contextlib.contextmanager
    def _asking_for_trial(self, view: _View) -> Iterator[Future[str | None] | None]:
        """The question for a trial's lease. One call of a process asks at a time; the others get None, and take it
        that the lease is held. The lock is only tried, so no coroutine waits for another."""
        if not self._asking.acquire(blocking=False):
            yield None
            return
        asked = None
        try:
            asked = self.sync.trials.lease(self, view.id)
            yield asked
        except BaseException:
            self._abandon(asked)
            raise
        finally:
            self._asking.release()

    def _on_trial(self, view: _View, asked: Future[str | None] | None, token: str | None) -> Permit:
        if self._view is view and token is None:
            self._busy_until = self._monotonic() + ASK_AGAIN
        elif self._view is view and self.policy.half_open_max_calls == 1:
            self._busy_until = self._monotonic() + self.policy.timeout + 1  # or until this trial has ended
        if token is not None:
            if asked is not None and not (asked.done() and asked.exception() is None and asked.result() == token):
                asked.add_done_callback(self._give_back_if_granted)
            return Permit(self, view, token)
        self._abandon(asked)
        raise self._reject(view, "half_open")

    def _abandon(self, asked: Future[str | None] | None) -> None:
        """Nobody waits for the lease any more: should it come, it is given back."""
        self._free_slot()
        if asked is not None:
            asked.add_done_callback(self._give_back_if_granted)

    def _give_back_if_granted(self, asked: Future[str | None]) -> None:
        if asked.exception() is None:
            self._give_back(asked.result())

    def _free_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()

    def refuse(self, reason: str) -> CallRejected:
        """Count a call that somebody else turned away before it came here, and answer the error to raise."""
        return self._reject(self._view, reason, retry_after=1)

    def _reject(self, view: _View, reason: str, *, retry_after: int | None = None) -> CallRejected:
        self._count((view.id, 0.0, _REJECT))
        now = self._monotonic()
        if now - self._reject_told_at >= 1:
            self._tell_reject(reason, now)
        else:
            next(self._rejects_untold)
        if retry_after is None:
            retry_after = 1 if reason == "capacity" else self._seconds_left(view)
        return CallRejected(self.name, reason, retry_after)

    def _tell_reject(self, reason: str, now: float) -> None:
        """One reject a second is told, with how many were not: an outage must not flood whoever listens."""
        with self._telling:
            if now - self._reject_told_at < 1:
                return
            self._reject_told_at = now
            untold, self._rejects_untold = next(self._rejects_untold), itertools.count()
        self.sync.tell(events.Rejected(breaker=self.name, labels=self.labels, reason=reason, left_out=untold))

    # -- outcomes --------------------------------------------------------------------------------------------------

    def outcome(self, result: Any, error: BaseException | None, seconds: float) -> Outcome | None:
        """What a call counts as; None for one that was cancelled and says nothing."""
        if error is not None and not isinstance(error, Exception):
            return None
        if self._classify is not None:
            return self._classify(result, error)
        if error is not None and not self.is_system_error(error):
            return Outcome.SUCCESS
        if isinstance(error, TimeoutError) or seconds > self.policy.timeout:
            return Outcome.TIMEOUT
        failed = error is not None or (self._is_failure is not None and self._is_failure(result))
        return Outcome.FAILURE if failed else Outcome.SUCCESS

    def _settle(
        self, generation: str, token: str | None, seconds: float, result: Any, error: BaseException | None
    ) -> Future[Any] | None:
        """Count a call that ended and tell of it; what the cluster has to hear of it travels in the Future, if any."""
        try:
            outcome = self.outcome(result, error, seconds)
        except BaseException:
            self._give_back(token)
            raise
        if outcome is None or outcome is Outcome.REJECT:  # cancelled, or never made
            self._give_back(token)
            return None
        self._count((generation, seconds, outcome.value))
        if outcome is not Outcome.SUCCESS:
            self.last_errors.append(_kind(outcome, result, error))
        news = None
        if token is not None:
            self._busy_until = float("-inf")
            news = self.sync.trials.settle(self, generation, token, outcome)
        elif outcome is not Outcome.SUCCESS and self._decides(generation):
            news = self.sync.judge.report(self)
        self._tell_outcome(outcome, seconds, result, error)
        return news

    def _give_back(self, token: str | None) -> None:
        if token is not None:
            self._busy_until = float("-inf")
            self.sync.trials.give_back(self, token)

    def _decides(self, generation: str) -> bool:
        """Whether a failure of that generation can open the circuit: stragglers and unguarded calls cannot."""
        view = self._view
        return view.id == generation and view.enabled and not view.forced and view.state is State.CLOSED

    def _wait(self, news: Future[Any] | None, *, trial: bool = False) -> None:
        """Where the cluster could not hear of a failure it is judged here. A trial is not: it decides nothing but what
        is half open, and `trials` sees to that."""
        if news is not None:
            self.sync.wait(news)
            if not trial:
                self.sync.judge.alone(self)

    async def _wait_async(self, news: Future[Any] | None, *, trial: bool) -> None:
        if news is not None:
            await self.sync.wait_async(news)
            if not trial:
                self.sync.judge.alone(self)

    def count_fallback(self, *, rejected: bool = False) -> None:
        """A fallback answered for a call that failed, or that was `rejected`: that one has counted as one by itself."""
        if not rejected:
            self._count((self._view.id, 0.0, FALLBACK))
        self._tell(FALLBACK, lambda n: events.FellBack(breaker=self.name, labels=self.labels, left_out=n))

    def tell_fallback_failed(self, error: BaseException) -> None:
        """A fallback failed by itself: nothing is counted, and somebody should hear of it."""
        self._tell(
            _FAULT, lambda n: events.FallbackFailed(breaker=self.name, labels=self.labels, error=error, left_out=n)
        )

    def _tell_before(self, func: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> None:
        for listener in self._listeners:
            _spared(listener.before_call, self, func, *args, **kwargs)

    # -- telling ---------------------------------------------------------------------------------------------------

    def _tell_outcome(self, outcome: Outcome, seconds: float, result: Any, error: BaseException | None) -> None:
        who: dict[str, Any] = {"breaker": self.name, "labels": self.labels}
        if outcome is Outcome.SUCCESS:
            for listener in self._listeners:
                _spared(listener.success, self)
            if self.sync.verbose:
                self.sync.tell(events.Succeeded(**who, seconds=seconds))
            return
        for listener in self._listeners:
            _spared(listener.failure, self, error)
        if outcome is Outcome.TIMEOUT:
            limit = self.policy.timeout
            self._tell(_TIMEOUT, lambda n: events.TimedOut(**who, timeout=limit, seconds=seconds, left_out=n))
        else:
            what: dict[str, Any] = {"error": error, "result": result, "seconds": seconds}
            self._tell(_FAILURE, lambda n: events.Failed(**who, **what, left_out=n))

    def _tell(self, kind: str, event: Callable[[int], Any]) -> None:
        """Tell a bounded number of events of a kind each second, and with the next how many were left out."""
        now = self._monotonic()
        with self._telling:
            began, told, left_out = self._told.get(kind, (float("-inf"), 0, 0))
            if now - began >= 1:
                began, told = now, 0
            if told >= _TOLD_PER_SECOND[kind]:
                self._told[kind] = (began, told, left_out + 1)
                return
            self._told[kind] = (began, told + 1, 0)
        self.sync.tell(event(left_out))


@functools.cache
def _alone() -> Sync:
    """What breakers made without a Sync share: this process's memory."""
    return Sync(None)


class Permit:
    """The right to make one call. `settle` it once, with the result or the error."""

    __slots__ = ("_circuit", "_generation", "_process", "_slot", "_started", "_token", "enabled")

    def __init__(self, circuit: SharedCircuitBreaker, view: _View, token: str | None) -> None:
        self._circuit = circuit
        self._generation = view.id
        self._token = token
        self._process = circuit.sync.process
        self._slot = circuit._slots is not None and view.enabled
        self._started: float | None = circuit._monotonic()
        self.enabled = view.enabled

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Count the call. Waits at most PATIENCE when the cluster has to hear of it."""
        self._circuit._wait(self._settled(result, error), trial=self._token is not None)

    async def settle_async(self, result: Any, error: BaseException | None) -> None:
        """The same, while the event loop goes on."""
        await self._circuit._wait_async(self._settled(result, error), trial=self._token is not None)

    def _settled(self, result: Any, error: BaseException | None) -> Future[Any] | None:
        if self._started is None or self._process != self._circuit.sync.process:  # settled, or a fork's copy
            return None
        seconds, self._started = self._circuit._monotonic() - self._started, None
        if self._slot:
            self._circuit._free_slot()
        return self._circuit._settle(self._generation, self._token, seconds, result, error)


class _Named:
    """Stands for one of pybreaker's state objects, whose logic is not used."""

    __slots__ = ("name",)

    def __init__(self, state: State) -> None:
        self.name = _PYBREAKER_STATE[state]


def _kind(outcome: Outcome, result: Any, error: BaseException | None) -> str:
    """A failure in a word: texts of errors may hold personal data."""
    if outcome is Outcome.TIMEOUT:
        return "timeout"
    if error is not None:
        return type(error).__name__
    status = getattr(result, "status_code", None)
    return f"status {status}" if isinstance(status, int) else "result"


def _exclusions(error_filter: Any) -> list[Any]:
    if error_filter is None:
        return []
    if isinstance(error_filter, type) or not isinstance(error_filter, Iterable):
        return [error_filter]
    return list(error_filter)


def _spared(listener: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a listener; what it raises is logged and harms nothing."""
    try:
        listener(*args, **kwargs)
    except Exception:
        complain("a breaker's listener failed")

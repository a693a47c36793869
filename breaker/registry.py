"""Name to circuit, and create_circuit_breaker(): options in code under what the settings say, operators over both."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, NoReturn

from asgiref.sync import markcoroutinefunction

from breaker import conf, otel
from breaker.engine.circuit import CallRejected, Permit, SharedCircuitBreaker
from breaker.engine.events import Labels
from breaker.engine.policy import Policy, PolicyError, check_name
from breaker.engine.stores.redis import RedisStore
from breaker.engine.sync import Sync
from breaker.engine.window import Outcome
from breaker.fallbacks import Answered, Fallback, is_async, parted, strategy

__all__ = ["Call", "Guarded", "Labels", "create_circuit_breaker", "get_breaker", "registry"]

log = logging.getLogger("breaker")


class Registry:
    """The circuits of this process and the Sync that they share, made from the settings at first use."""

    def __init__(self) -> None:
        self._circuits: dict[str, tuple[SharedCircuitBreaker, dict[str, Any]]] = {}
        self._sync: Sync | None = None
        self.own: set[str] = set()
        """The breakers of the service's own API: status groups them, and health judges by them."""
        self._lock = threading.RLock()

    @property
    def sync(self) -> Sync:
        if self._sync is None:
            with self._lock:
                if self._sync is None:
                    self._sync = _make_sync()
        return self._sync

    @property
    def circuits(self) -> dict[str, SharedCircuitBreaker]:
        return {name: circuit for name, (circuit, _) in list(self._circuits.items())}

    def circuit(self, name: str, policy: Policy, *, code: Any = None, **traits: Any) -> SharedCircuitBreaker:
        """The circuit of that name, made if there is none. Raises PolicyError when it was made otherwise before.

        `code`: of the function that gave the name. Two lambdas of one scope have one name, and are two breakers.
        """
        asked = {"policy": policy, "code": code, **traits}
        with self._lock:
            if name not in self._circuits:
                circuit = _kinds()[0](name, policy, sync=self.sync, **traits)
                self._circuits[name] = (circuit, asked)
                return circuit
            circuit, made = self._circuits[name]
        if different := [trait for trait in asked if asked[trait] != made[trait]]:
            said = "; ".join(f"{trait} is {made[trait]!r}, not {asked[trait]!r}" for trait in different)
            raise PolicyError(f"name={name!r}: a breaker of this name was made differently here ({said})")
        return circuit

    def start(self) -> None:
        """Take up the shared state now, so that no call comes before it: waits a second for it at most."""
        self.sync.revive(patience=1.0)

    def close(self) -> None:
        """Send what is still unsent, at most 100 ms."""
        if self._sync is not None:
            self._sync.close()

    def forget(self) -> None:
        """Drop all circuits; for tests and changed settings."""
        with self._lock:
            self.close()
            self._circuits, self._sync = {}, None

    def renew_after_fork(self) -> None:
        self._lock = threading.RLock()


registry = Registry()
os.register_at_fork(after_in_child=registry.renew_after_fork)
start, close = registry.start, registry.close


def get_breaker(name: str) -> SharedCircuitBreaker:
    """The breaker of that name in this process. Raises LookupError."""
    try:
        return registry.circuits[name]
    except KeyError:
        raise LookupError(f"no breaker {name!r} here; there are {', '.join(registry.circuits) or 'none'}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The call that a fallback answers for."""

    breaker: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


_entered: ContextVar[tuple[AbstractContextManager[Permit], ...]] = ContextVar("breaker_entered", default=())
"""The blocks entered and not yet left, by thread and by asyncio task: the tasks of one thread leave in any order."""


class Guarded:
    """A function behind its breaker: call it, or, when made without a function, decorate with it or enter it."""

    def __init__(
        self, func: Callable[..., Any] | None, breaker: SharedCircuitBreaker, fallback: Callable[..., Any] | None
    ) -> None:
        if func is not None:
            functools.update_wrapper(self, func)
        self.breaker = breaker
        self._func = func
        self._fallback = _strategy(fallback)
        self._async = is_async(_without_partial(func))
        if self._async:
            markcoroutinefunction(self)
        elif func is not None and self._fallback is not None and self._fallback.is_async:
            raise PolicyError("fallback: an async one can answer for an async function only")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        func = self._func
        if func is None:
            return type(self)(args[0], self.breaker, self._fallback)
        if self._async:
            return self._call_async(*args, **kwargs)
        if self._fallback is None:
            return self.breaker.call(func, *args, **kwargs)
        try:
            return self.breaker.call(func, *args, **kwargs)
        except Exception as error:
            if not self._falls_back_on(error):
                raise
            assert self._fallback is not None
            rejected = self._rejected(error)
            try:
                found = self._fallback.given(self._told(args, kwargs), error, rejected=rejected)
            except Exception as fault:
                self._give_up(error, fault)
            return self._count(found, rejected=rejected)

    async def _call_async(self, *args: Any, **kwargs: Any) -> Any:
        assert self._func is not None
        try:
            return await self.breaker.call_async(self._func, *args, **kwargs)
        except Exception as error:
            if not self._falls_back_on(error):
                raise
            assert self._fallback is not None
            rejected = self._rejected(error)
            try:
                found = await self._fallback.given_async(self._told(args, kwargs), error, rejected=rejected)
            except Exception as fault:
                self._give_up(error, fault)
            return self._count(found, rejected=rejected)

    def _give_up(self, error: Exception, fault: Exception) -> NoReturn:
        """There is no answer but the call's own error; of the fallback's somebody hears."""
        if fault is error:
            raise error
        self.breaker.tell_fallback_failed(fault)
        raise error from parted(fault, error)

    def _count(self, found: Answered, *, rejected: bool) -> Any:
        for fault in found.faults:
            self.breaker.tell_fallback_failed(fault)
        self.breaker.count_fallback(rejected=rejected)
        return found.answer

    def _falls_back_on(self, error: Exception) -> bool:
        """On a reject, a failure and a timeout; not on an error that counts as a success."""
        if self._fallback is None:
            return False
        return self._rejected(error) or self.breaker.outcome(None, error, 0.0) is not Outcome.SUCCESS

    def _rejected(self, error: Exception) -> bool:
        """Whether this breaker turned the call away, not one that the function came to."""
        return isinstance(error, CallRejected) and error.breaker == self.breaker.name

    def _told(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return Call(breaker=self.breaker.name, args=args, kwargs=kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: bound like the function that it wraps, and carrying `.breaker` like it."""
        return self if instance is None else MethodType(self, instance)

    def __enter__(self) -> Permit:
        block = self._block()
        permit = block.__enter__()
        _entered.set((*_entered.get(), block))
        return permit

    def _block(self) -> AbstractContextManager[Permit]:
        return self.breaker.calling()

    def __exit__(self, *raised: Any) -> bool | None:
        *others, block = _entered.get()
        _entered.set(tuple(others))
        return block.__exit__(*raised)

    def __repr__(self) -> str:
        return f"<guarded by {self.breaker.name}: {self._func!r}>"


def create_circuit_breaker(
    func: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    labels: Labels | None = None,
    fallback: Callable[..., Any] | None = None,
    error_filter: Iterable[type[BaseException]] | Callable[[BaseException], bool] | None = None,
    is_failure: Callable[[Any], bool] | None = None,
    classify: Callable[[Any, BaseException | None], Outcome] | None = None,
    own: bool = False,
    **options: Any,
) -> Guarded:
    """Guard `func` by a breaker that the whole cluster shares.

    >>> balance = create_circuit_breaker(fetch_balance, name="balance", timeout=5)
    >>> balance("42")

    Without `func` the answer is a decorator and a context manager. `name` is by default the function's module and
    qualified name. `options` are those of Policy, in seconds; the settings' `BREAKER["BREAKERS"]` win over them.

    An `async def` function is cancelled at `timeout`. A plain function cannot be stopped from outside: it runs to its
    end, and the call counts as a timeout when it took longer; hand it a deadline of its own to keep the limit.

    `error_filter`: exception types (or a predicate) that do not count as failures. `is_failure`: results that do.
    `classify(result, error)` replaces both. `fallback` answers when the call was rejected, failed or timed out; it is
    called as `fallback(call, error)`, `fallback(error)` or `fallback()`, by the number of its positional parameters.
    If it fails too, the original error is raised with the fallback's as its cause. `own` marks the breakers of a
    service's own API: status shows them by their labels' group and key, and health judges by them alone.

    Raises PolicyError for a bad option or name, and when the name already stands for other options in this process.
    """
    code = None
    if name is None:
        if func is None:
            raise PolicyError("name: needed where no function gives one")
        name, code = _name_of(func), getattr(_without_partial(func), "__code__", None)
    labels = labels or Labels()
    if own:
        registry.own.add(name)
    circuit = registry.circuit(
        check_name(name),
        Policy.of({**options, **conf.options_of(name, labels.group)}),
        labels=labels,
        classify=classify,
        error_filter=error_filter,
        is_failure=is_failure,
        code=code,
    )
    return _kinds()[1](func, circuit, fallback)


def _kinds() -> tuple[type[SharedCircuitBreaker], type[Guarded]]:
    """What is made: plain ones, or those that tell OpenTelemetry of each call."""
    if not otel.is_on():
        return SharedCircuitBreaker, Guarded
    from breaker.otel import spans

    return spans.TracedCircuit, spans.TracedGuarded


def _strategy(fallback: Any) -> Fallback | None:
    try:
        return None if fallback is None else strategy(fallback)
    except TypeError as error:
        raise PolicyError(str(error)) from None


def _name_of(func: Callable[..., Any]) -> str:
    func = _without_partial(func)
    qualified = f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', type(func).__qualname__)}"
    return re.sub(r"[^A-Za-z0-9._:-]+", "", qualified)[-100:].lstrip("._:-")  # the end is what tells two apart


def _without_partial(func: Any) -> Any:
    while isinstance(func, functools.partial):
        func = func.func
    return func


def _make_sync() -> Sync:
    from breaker import listeners, operations

    connect = conf.redis_connector()
    sync = Sync(
        RedisStore(connect, namespace=conf.namespace()) if connect else None,
        tell=listeners.tell,
        wants_success=lambda: log.isEnabledFor(logging.DEBUG),
        on_lost_data=operations.apply_again,
        on_start=_start_companions,
        **_in_trace(),
    )
    atexit.register(sync.close)
    return sync


def _start_companions() -> None:
    """The threads that look on in this process, for it and for the cluster."""
    from breaker.recorder import recorder

    recorder.start()
    if otel.is_wanted():
        otel.start()


def _in_trace() -> dict[str, Any]:
    if not otel.is_on():
        return {}
    from breaker.otel.news import in_trace

    return {"bind": in_trace}

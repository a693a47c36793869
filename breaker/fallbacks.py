"""What answers in place of a call that was rejected, failed or timed out; strategies, which `|` puts in a chain.

A strategy is called as `strategy(call, error)`. It returns an answer, or raises `error` itself when it has none; any
other error is its own. Plain functions of that shape may stand wherever a strategy may.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, overload

from asgiref.sync import iscoroutinefunction

Answerer = Callable[..., Any]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def taking_what_it_needs(function: Answerer) -> Callable[[Any, Exception], Any]:
    """`function(call, error)`, `function(error)` or `function()`, by how many positional parameters it has."""
    takes = _takes(function)
    return lambda call, error: function(*(call, error)[2 - takes :])


def _takes(function: Answerer) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 2
    return min(2, sum(parameter.kind in _POSITIONAL for parameter in parameters))


@dataclass(frozen=True, slots=True)
class Answered:
    """What a strategy gave. `faults`: of those in its chain that were asked before it and failed."""

    answer: Any
    provenance: str
    faults: tuple[Exception, ...] = ()


class Fallback:
    """A strategy. `answer` is what one of its own overrides."""

    provenance = "custom"
    """What its answers say of themselves."""
    failures = True
    """Whether it answers for calls that failed or timed out, too; else for rejected ones alone."""
    reads_only = False
    """Whether its answers would be lies where something was to be written."""
    is_async = False
    """Whether its answers must be awaited, which only an async function can do."""

    def answer(self, call: Any, error: Exception) -> Any:
        raise NotImplementedError

    def given(self, call: Any, error: Exception, *, rejected: bool) -> Answered:
        """Its answer; raises `error` when there is none.

        `rejected`: by the breaker that asks. The error of an inner one looks alike, but comes after the call has begun.
        """
        if not rejected and not self.failures:
            raise error
        return Answered(self.answer(call, error), self.provenance)

    async def given_async(self, call: Any, error: Exception, *, rejected: bool) -> Answered:
        found = self.given(call, error, rejected=rejected)
        answer = await found.answer if inspect.isawaitable(found.answer) else found.answer
        return Answered(answer, found.provenance)

    def __call__(self, call: Any, error: Exception) -> Any:
        return self.given(call, error, rejected=getattr(error, "rejected", False)).answer

    def __or__(self, other: Answerer) -> Chain:
        return Chain(self, other)

    def __ror__(self, other: Answerer) -> Chain:
        return Chain(other, self)


class FailFast(Fallback):
    """No answer but the error: what holds where nothing is said, and the way to switch a configured strategy off."""

    def answer(self, call: Any, error: Exception) -> Any:
        raise error


class Placeholder(Fallback):
    """Always the same value, or what a function makes of `(call, error)`, `(error)` or nothing. For reads."""

    provenance = "placeholder"
    reads_only = True

    def __init__(self, value: Any, *, failures: bool = True) -> None:
        self._make = taking_what_it_needs(value) if callable(value) else None
        self.is_async = is_async(value)
        self._value = value
        self.failures = failures

    def answer(self, call: Any, error: Exception) -> Any:
        return self._make(call, error) if self._make else copy.deepcopy(self._value)


class Custom(Fallback):
    """A function as a strategy; `fallback` makes one."""

    def __init__(self, function: Answerer, *, failures: bool = True) -> None:
        functools.update_wrapper(self, function, updated=())  # its attributes are not ours, nor is its signature
        del self.__wrapped__  # type: ignore[attr-defined]
        self._function = taking_what_it_needs(function)
        self.is_async = is_async(function)
        self.failures = failures

    def answer(self, call: Any, error: Exception) -> Any:
        return self._function(call, error)


class Chain(Fallback):
    """The first of several that has an answer. An error of one leaves it to the next."""

    def __init__(self, *strategies: Answerer) -> None:
        self.strategies: tuple[Fallback, ...] = sum(
            (one.strategies if isinstance(one, Chain) else (strategy(one),) for one in strategies), ()
        )
        self.reads_only = any(one.reads_only for one in self.strategies)
        self.is_async = any(one.is_async for one in self.strategies)

    def given(self, call: Any, error: Exception, *, rejected: bool) -> Answered:
        faults: list[Exception] = []
        for one in self.strategies:
            try:
                found = one.given(call, error, rejected=rejected)
                return Answered(found.answer, found.provenance, tuple(faults))
            except Exception as raised:
                _keep(raised, error, faults)
        raise faults[-1] if faults else error

    async def given_async(self, call: Any, error: Exception, *, rejected: bool) -> Answered:
        faults: list[Exception] = []
        for one in self.strategies:
            try:
                found = await one.given_async(call, error, rejected=rejected)
                return Answered(found.answer, found.provenance, tuple(faults))
            except Exception as raised:
                _keep(raised, error, faults)
        raise faults[-1] if faults else error


def _keep(raised: Exception, error: Exception, faults: list[Exception]) -> None:
    if raised is not error:
        faults.append(raised)


@overload
def fallback(function: Answerer, /) -> Custom: ...
@overload
def fallback(*, failures: bool = True) -> Callable[[Answerer], Custom]: ...
def fallback(function: Answerer | None = None, /, *, failures: bool = True) -> Any:
    """Make a function a strategy, which may stand in a chain.

    >>> @fallback(failures=False)  # for rejected calls alone
    ... def closed_counter(call, error):
    ...     return {"open": False}
    """
    if function is None:
        return functools.partial(Custom, failures=failures)
    return Custom(function, failures=failures)


def strategy(given: Any) -> Fallback:
    """What was given, as a strategy. Raises TypeError, which names no value: it may hold anything."""
    if isinstance(given, Fallback):
        return given
    if isinstance(given, type) and issubclass(given, Fallback):
        raise TypeError(f"fallback: {given.__name__} is a class; one of it is needed, {given.__name__}(...)")
    if not callable(given):
        kind = type(given).__name__
        raise TypeError(f"fallback: {kind} is none; a strategy such as Placeholder(...), or a function, is needed")
    return Custom(given)


def is_async(function: Any) -> bool:
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004 - read


def parted(fault: Exception, error: Exception) -> Exception:
    """A fallback's error without `from error`: being that error's cause in turn, it would close a circle."""
    if fault.__cause__ is error:
        fault.__cause__ = None
    return fault

"""What answers in place of a call that was rejected, failed or timed out; strategies, which `|` puts in a chain.

A strategy is called as `strategy(call, error)`. It returns an answer, or raises `error` itself when it has none; any
other error is its own. Plain functions of that shape may stand wherever a strategy may.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any, overload

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


class Fallback:
    """A strategy. `answer` is what one of its own overrides."""

    provenance = "custom"
    """What its answers say of themselves."""
    failures = True
    """Whether it answers for calls that failed or timed out, too; else for rejected ones alone."""
    reads_only = False
    """Whether its answers would be lies where something was to be written."""

    def answer(self, call: Any, error: Exception) -> Any:
        raise NotImplementedError

    def given(self, call: Any, error: Exception) -> tuple[Any, str]:
        """The answer and its provenance; raises `error` when there is none."""
        if not self.failures and not getattr(error, "rejected", False):
            raise error
        return self.answer(call, error), self.provenance

    def __call__(self, call: Any, error: Exception) -> Any:
        return self.given(call, error)[0]

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
        self._value = value
        self.failures = failures

    def answer(self, call: Any, error: Exception) -> Any:
        return self._make(call, error) if self._make else copy.deepcopy(self._value)


class Custom(Fallback):
    """A function as a strategy; `fallback` makes one."""

    def __init__(self, function: Answerer, *, failures: bool = True) -> None:
        functools.update_wrapper(self, function)
        del self.__wrapped__  # type: ignore[attr-defined]  # its signature is not ours
        self._function = taking_what_it_needs(function)
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

    def given(self, call: Any, error: Exception) -> tuple[Any, str]:
        fault = error
        for one in self.strategies:
            try:
                return one.given(call, error)
            except Exception as raised:
                fault = raised if raised is not error else fault
        raise fault


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


def strategy(given: Answerer) -> Fallback:
    """What was given, as a strategy. Raises TypeError."""
    if isinstance(given, Fallback):
        return given
    if not callable(given):
        raise TypeError(f"fallback={given!r}: a strategy such as Placeholder(...), or a function, is needed")
    return Custom(given)


def parted(fault: Exception, error: Exception) -> Exception:
    """A fallback's error without `from error`: being that error's cause in turn, it would close a circle."""
    if fault.__cause__ is error:
        fault.__cause__ = None
    return fault

"""Calls that overlap: each runs in a thread of its own until told, for a breaker is handed a function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.conformance.runner import ERRORS

PATIENCE = 20.0
"""Seconds for what takes none, on a machine that is busy besides."""
Guard = Callable[[Callable[[], None]], Any]


class Call:
    """`guard` is the library's own call(function); what it raises when it turns a call away is `rejection`; `ran` is
    told each time that the function is run."""

    def __init__(self, guard: Guard, rejection: type[Exception], ran: Callable[[], None]) -> None:
        self._guard, self._rejection, self._ran = guard, rejection, ran
        self._decided, self._ends = threading.Event(), threading.Event()
        self._outcome = "S"
        self._error: BaseException | None = None
        self.runs = False
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()
        assert self._decided.wait(PATIENCE), "the call is neither run nor rejected"
        if not self.runs and not isinstance(self._error, rejection):
            raise self._error or AssertionError("the function was not called")

    def _make(self) -> None:
        try:
            self._guard(self._guarded)
        except BaseException as error:
            self._error = error
        self._decided.set()

    def _guarded(self) -> None:
        self.runs = True
        self._ran()
        self._decided.set()
        self._ends.wait()
        error = ERRORS[self._outcome]
        if error is not None:
            raise error

    def settle(self, outcome: str) -> None:
        self._outcome = outcome
        self._ends.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the call does not end"
        expected = (*filter(None, [ERRORS[outcome]]), self._rejection)
        assert self._error is None or isinstance(self._error, expected), self._error


class Calls:
    """An arena's calls, and how often a function was run in one."""

    def __init__(self, rejection: type[Exception]) -> None:
        self.runs = 0
        self._rejection = rejection
        self._running: list[Call] = []

    def guard(self, worker: str) -> Guard:
        raise NotImplementedError

    def ran(self) -> None:
        self.runs += 1

    def call(self, worker: str, outcome: str) -> bool:
        call = self.begin(worker)
        if call is not None:
            self.settle(call, outcome)
        return call is not None

    def begin(self, worker: str) -> Call | None:
        call = Call(self.guard(worker), self._rejection, self.ran)
        if not call.runs:
            return None
        self._running.append(call)
        return call

    def settle(self, call: Call, outcome: str) -> None:
        self._running.remove(call)
        call.settle(outcome)

    def close(self) -> None:
        """Have those end that still run, their processes dead or not."""
        for call in self._running:
            call.settle("S")

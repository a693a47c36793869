"""Calls that overlap, for libraries that can only be handed a function: each runs in a thread of its own until told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.conformance.runner import ERRORS

PATIENCE = 20.0
"""Seconds for what takes none, on a machine that is busy besides."""


class Call:
    """`guard` is the library's own call(function); what it raises when it turns a call away is `rejection`."""

    def __init__(self, guard: Callable[[Callable[[], None]], Any], rejection: type[Exception]) -> None:
        self._guard, self._rejection = guard, rejection
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

"""Runs a trace on a contestant: the format's meaning, once for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tests.conformance.trace import RUN, Trace, brief

PASS, FAILS, NOT_APPLICABLE = "pass", "FAILS", "n/a"


class Excluded(Exception):
    """The error of a call that must count as a success (X)."""


class Failure(Exception):
    """The error of a call that fails (F)."""


ERRORS: Mapping[str, type[Exception] | None] = {"S": None, "F": Failure, "X": Excluded}
"""Not T's: what becomes of a call that takes too long is the breaker's affair."""


class WouldWait(Exception):
    """A call was neither run nor rejected: it waits for one that runs."""


class Arena(Protocol):
    """One breaker in some workers, under a clock that moves only when told. Workers bear a trace's letters."""

    @property
    def runs(self) -> int:
        """How often a guarded function was really run."""

    def call(self, worker: str, outcome: str) -> bool:
        """A whole call; False when it was rejected. With T its function takes longer than it may. Raises WouldWait."""

    def begin(self, worker: str) -> Any | None:
        """The call that runs now; None when it was rejected. Raises WouldWait."""

    def settle(self, call: Any, outcome: str) -> None: ...

    def state(self, worker: str) -> str: ...

    def news(self) -> None:
        """Have every worker hear of the others, as the breaker promises it."""

    def wait(self, seconds: float) -> None: ...

    def act(self, worker: str, act: str, seconds: float | None) -> None:
        """What an operator does at a worker; for so long, or until it is undone."""

    def kill(self, worker: str) -> None: ...

    def join(self, worker: str) -> None: ...

    def cut(self, worker: str) -> None:
        """Sever a worker from what the workers share."""

    def mend(self, worker: str) -> None: ...

    def forget(self) -> None:
        """Empty what the workers share."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    name: str
    trips_by: frozenset[str]
    """Of window_calls, window_seconds and consecutive those that its policy can say."""
    trips_why: str
    """Why not by the others."""
    lacks: Mapping[str, str]
    """Needs of traces that it does not claim to meet, and what it does instead."""
    turns_when_called: bool
    """Whether it shows OPEN until a call comes, though a trial is due."""
    open_arena: Callable[[Trace], AbstractContextManager[Arena]]

    def out_of_scope(self, trace: Trace) -> str:
        """Why a trace says nothing of this breaker; empty: it does."""
        for need in trace.needs:
            if need in self.lacks:
                return self.lacks[need]
        trip = trace.policy.trip
        return "" if any(getattr(trip, kind) is not None for kind in self.trips_by) else self.trips_why


@dataclass(frozen=True)
class Verdict:
    kind: str
    why: str = ""


def run(trace: Trace, contestant: Contestant) -> Verdict:
    if why := contestant.out_of_scope(trace):
        return Verdict(NOT_APPLICABLE, why)
    with contestant.open_arena(trace) as arena:
        performance = _Performance(trace, contestant, arena)
        for number, step in enumerate(trace.steps, 1):
            if differs := performance.take(step):
                return Verdict(FAILS, f"step {number}, {brief(step)}: {differs}")
        runs = arena.runs - performance.passed_freely
    if runs != trace.runs:
        return Verdict(FAILS, f"{runs} calls were run, not {trace.runs}")
    return Verdict(PASS)


class _Performance:
    def __init__(self, trace: Trace, contestant: Contestant, arena: Arena) -> None:
        self._arena = arena
        self._workers = list(trace.workers)
        self._lazy = contestant.turns_when_called
        self._untouched = False
        """No call has come since the last wait."""
        self._running: dict[str, Any] = {}
        self.passed_freely = 0
        """Calls let through that might as well have been rejected (?)."""

    def take(self, step: Mapping[str, Any]) -> str:
        """Make a step; how what happened differs from what it expects, or nothing."""
        return self._make(step) or self._compare(step.get("state", {}))

    def _make(self, step: Mapping[str, Any]) -> str:
        match step:
            case {"on": worker, "do": letters}:
                return self._calls(worker, letters)
            case {"on": worker, "begin": name}:
                self._running[name], differs = self._try(lambda: self._arena.begin(worker), "run")
                return differs
            case {"end": name, "with": outcome}:
                self._arena.settle(self._running.pop(name), outcome)
            case {"on": worker, "act": act}:
                self._arena.act(worker, act, step.get("for"))
            case {"wait": seconds}:
                self._untouched = True
                self._arena.wait(seconds)
            case {"news": _}:
                self._arena.news()
            case {"kill": worker}:
                self._workers.remove(worker)
                self._arena.kill(worker)
            case {"join": worker}:
                self._workers.append(worker)
                self._arena.join(worker)
            case {"cut": worker}:
                self._arena.cut(worker)
            case {"mend": worker}:
                self._arena.mend(worker)
            case {"forget": _}:
                self._arena.forget()
        return ""

    def _calls(self, worker: str, letters: str) -> str:
        for number, letter in enumerate(letters, 1):
            expected = "run" if letter in RUN else "rejected" if letter == "O" else ""
            outcome = letter if letter in RUN else "S"
            was_run, differs = self._try(lambda outcome=outcome: self._arena.call(worker, outcome), expected)
            if differs:
                return f"call {number}: {differs}" if len(letters) > 1 else differs
            self.passed_freely += bool(was_run and not expected)
        return ""

    def _try(self, call: Callable[[], Any], expected: str) -> tuple[Any, str]:
        """What the arena gives, and how that differs from `expected`: run, rejected, or whatever comes ("")."""
        self._untouched = False
        try:
            given = call()
        except WouldWait:
            return None, "it waits for a call that runs"
        got = "run" if given else "rejected"
        return given, "" if expected in ("", got) else f"it was {got}"

    def _compare(self, expected: str | Mapping[str, str]) -> str:
        if isinstance(expected, str):
            expected = dict.fromkeys(self._workers, expected)
        for worker, state in expected.items():
            shown = self._arena.state(worker)
            due = self._lazy and self._untouched and (shown, state) == ("OPEN", "HALF_OPEN")
            if shown != state and not due:
                return f"{worker} is {shown}, not {state}"
        return ""

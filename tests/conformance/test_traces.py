"""The traces are well formed, say what they need, and each is passed by somebody who can be asked."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import jsonschema
import pytest

from breaker.engine.circuit import SharedCircuitBreaker
from tests.conformance import ours
from tests.conformance.runner import FAILS, PASS, Contestant, Verdict, run
from tests.conformance.trace import FILES, RUN, SCHEMA, Policy, Trace, Trip, read

TRACES = {path.stem: path for path in FILES}


@pytest.fixture(params=TRACES)
def path(request: pytest.FixtureRequest) -> Any:
    return TRACES[request.param]


def test_it_has_the_form_of_the_schema(path) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text("utf-8")))


def test_it_makes_sense(path) -> None:
    trace = read(path)
    assert trace.name == path.stem
    assert trace.implied() <= {*trace.needs}
    assert trace.runs == sum(_runs(step) for step in trace.steps)
    begun = [step["begin"] for step in trace.steps if "begin" in step]
    assert len(begun) == len({*begun})
    assert {step["end"] for step in trace.steps if "end" in step} <= {*begun}
    known = {*trace.workers, *(step["join"] for step in trace.steps if "join" in step)}
    assert {step[verb] for verb in ("on", "kill", "cut", "mend") for step in trace.steps if verb in step} <= known


def _runs(step: Any) -> int:
    return sum(letter in RUN for letter in step.get("do", "")) + ("begin" in step)


def test_each_need_is_some_traces() -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    needs = {need for path in FILES for need in read(path).needs}
    assert needs == {*schema["properties"]["needs"]["items"]["enum"]}


@pytest.mark.parametrize(
    "fault",
    [
        {"steps": [{"on": "a"}]},
        {"steps": [{"on": "a", "do": "FO", "wait": 1}]},
        {"steps": [{"on": "a", "do": "Q"}]},
        {"steps": [{"wait": 1, "state": "AJAR"}]},
        {"policy": {"trip": {"volume": 5}, "open_seconds": 1}},
        {"policy": {"trip": {"rate": 5, "inclusive": True, "volume": 1}, "open_seconds": 1}},
        {"needs": ["luck"]},
        {"note": "more"},
    ],
)
def test_the_schema_refuses_what_is_no_trace(fault: dict[str, Any]) -> None:
    schema, sound = json.loads(SCHEMA.read_text("utf-8")), json.loads(FILES[0].read_text("utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(sound | fault)


# -- the runner --------------------------------------------------------------------------------------------------------


class Scripted:
    """An arena whose calls are admitted, and whose states are shown, as it was told; a call runs its function `each`
    times."""

    def __init__(self, admitted: str, state: str = "CLOSED", each: int = 1) -> None:
        self._admitted, self._state, self._each = itertools.chain(admitted, itertools.repeat("y")), state, each
        self.runs = 0

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def call(self, worker: str, outcome: str) -> bool:
        return self.begin(worker) is not None

    def begin(self, worker: str) -> object | None:
        admitted = next(self._admitted) == "y"
        self.runs += self._each * admitted
        return object() if admitted else None

    def settle(self, call: object, outcome: str) -> None:
        pass

    def state(self, worker: str) -> str:
        return self._state

    def wait(self, seconds: float) -> None:
        pass


def verdict(steps: list[dict[str, Any]], *, runs: int = 0, lazy: bool = False, **arena: Any) -> Verdict:
    policy = Policy(trip=Trip(consecutive=1), open_seconds=1)
    trace = Trace(name="t", says="", source={}, policy=policy, workers="a", needs=[], steps=steps, runs=runs)
    contestant = Contestant(
        name="scripted",
        trips_by=frozenset({"consecutive"}),
        trips_why="",
        lacks={},
        turns_when_called=lazy,
        open_arena=lambda trace: Scripted(**arena),  # type: ignore[return-value]
    )
    return run(trace, contestant)


def test_the_first_difference_is_told() -> None:
    steps = [{"on": "a", "do": "F"}, {"on": "a", "do": "SSO"}, {"on": "a", "do": "O"}]
    assert verdict(steps, admitted="yyy").why == "step 2, a:SSO: call 3: it was run"
    assert verdict(steps, admitted="yyyny").why == "step 3, a:O: it was run"
    assert verdict(steps, admitted="yyn").why == "step 2, a:SSO: call 2: it was rejected"


def test_a_state_that_differs_fails() -> None:
    steps = [{"on": "a", "do": "S", "state": "OPEN"}]
    assert verdict(steps, runs=1, admitted="", state="CLOSED").why == "step 1, a:S: a is CLOSED, not OPEN"
    assert verdict(steps, runs=1, admitted="", state="OPEN").kind == PASS


def test_executions_are_counted_where_they_happen() -> None:
    """Whatever is said of a call, its function is run once; but for one that might have been rejected."""
    steps = [{"on": "a", "do": "S?"}, {"on": "a", "begin": "x"}]
    assert verdict(steps, runs=2, admitted="").kind == PASS
    assert verdict(steps, runs=2, admitted="yny").kind == PASS
    assert verdict(steps, runs=3, admitted="").why == "2 calls were run, not 3"
    assert verdict(steps, runs=2, admitted="", each=0).kind == FAILS
    assert verdict(steps, runs=2, admitted="", each=2).kind == FAILS


@pytest.mark.parametrize(("lazy", "kind"), [(True, PASS), (False, FAILS)])
def test_who_turns_when_called_may_show_open_until_then(lazy: bool, kind: str) -> None:
    assert verdict([{"wait": 1, "state": "HALF_OPEN"}], lazy=lazy, admitted="", state="OPEN").kind == kind


def test_even_who_turns_when_called_shows_half_open_after_a_call() -> None:
    steps = [{"wait": 1}, {"on": "a", "begin": "x", "state": "HALF_OPEN"}]
    assert verdict(steps, runs=1, lazy=True, admitted="", state="OPEN").kind == FAILS


# -- our engine in its arena -------------------------------------------------------------------------------------------


def verdict_on_ours(trace: str) -> Verdict:
    return run(read(TRACES[trace]), ours.contestant("ours", ours.over_memory))


def test_a_breaker_that_runs_a_function_twice_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    call = SharedCircuitBreaker.call
    monkeypatch.setattr(SharedCircuitBreaker, "call", lambda self, func: call(self, lambda: (func(), func())[1]))
    assert verdict_on_ours("opossum-good-trial-closes").kind == FAILS


def test_a_breaker_without_a_time_limit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    policy_of = ours.policy_of
    monkeypatch.setattr(ours, "policy_of", lambda trace: dataclasses.replace(policy_of(trace), timeout=3600))
    assert verdict_on_ours("opossum-timeout").kind == FAILS
    assert verdict_on_ours("mp-timeouts-open").kind == FAILS

"""The traces are well formed, say what they need, and each is passed by somebody who can be asked."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema
import pytest

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
    """An arena whose calls are admitted, and whose states are shown, as it was told."""

    def __init__(self, admitted: str, state: str = "CLOSED") -> None:
        self._admitted, self._state = itertools.chain(admitted, itertools.repeat("y")), state

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def admit(self, worker: str) -> object | None:
        return object() if next(self._admitted) == "y" else None

    def settle(self, call: object, outcome: str) -> None:
        pass

    def state(self, worker: str) -> str:
        return self._state

    def wait(self, seconds: float) -> None:
        pass


def verdict(steps: list[dict[str, Any]], *, runs: int = 0, lazy: bool = False, **arena: str) -> Verdict:
    policy = Policy(trip=Trip(consecutive=1), open_seconds=1)
    trace = Trace(name="t", says="", source={}, policy=policy, workers="a", needs=[], steps=steps, runs=runs)
    contestant = Contestant(
        name="scripted",
        trips_by=frozenset({"consecutive"}),
        trips_why="",
        lacks={},
        turns_when_called=lazy,
        open_arena=lambda trace: Scripted(**arena),  # type: ignore[arg-type, return-value]
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


def test_calls_that_were_run_are_summed() -> None:
    steps = [{"on": "a", "do": "S?"}, {"on": "a", "begin": "x"}]
    assert verdict(steps, runs=2, admitted="").kind == PASS
    assert verdict(steps, runs=3, admitted="").why == "2 calls were run"


@pytest.mark.parametrize(("lazy", "kind"), [(True, PASS), (False, FAILS)])
def test_who_turns_when_called_may_show_open_until_then(lazy: bool, kind: str) -> None:
    assert verdict([{"wait": 1, "state": "HALF_OPEN"}], lazy=lazy, admitted="", state="OPEN").kind == kind


def test_even_who_turns_when_called_shows_half_open_after_a_call() -> None:
    steps = [{"wait": 1}, {"on": "a", "begin": "x", "state": "HALF_OPEN"}]
    assert verdict(steps, runs=1, lazy=True, admitted="", state="OPEN").kind == FAILS

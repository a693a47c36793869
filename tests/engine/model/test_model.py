"""The short profile of the model; `make prove` runs the long one."""

from __future__ import annotations

from hypothesis.stateful import run_state_machine_as_test

from tests.engine.model.schedules import Schedule, profile


def test_every_admission_and_state_is_the_references() -> None:
    run_state_machine_as_test(Schedule, settings=profile(schedules=400, derandomize=True))

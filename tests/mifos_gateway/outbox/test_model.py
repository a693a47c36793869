"""The short profile of the model; `make prove` runs the long one."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.mifos_gateway.outbox.schedules import Schedule, profile

AT_LEAST: dict[str, int] = {}


@pytest.mark.django_db
def test_what_is_promised_holds_after_every_step() -> None:
    Schedule.seen.clear()
    run_state_machine_as_test(Schedule, settings=profile(schedules=100, derandomize=True))
    print(Schedule.seen)
    assert {what: Schedule.seen[what] for what, times in AT_LEAST.items() if Schedule.seen[what] < times} == {}

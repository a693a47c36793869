"""The short profile of the model over every store; `make prove` runs the long one over memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.model.schedules import Schedule, profile
from tests.engine.model.shared import SharedRedis

AT_LEAST = {
    "begun with windows of two lengths": 20,
    "begun with a wrong clock": 20,
    "admitted": 200,
    "admitted on trial": 100,
    "rejected: open": 200,
    "rejected: half_open": 200,
    "rejected: capacity": 50,
    "Transitioned CLOSED OPEN": 50,
    "Transitioned OPEN HALF_OPEN": 50,
    "Transitioned HALF_OPEN CLOSED": 20,
    "Transitioned HALF_OPEN OPEN": 50,
    "act done": 50,
    "act failed": 1,
    "ActEnded": 5,
    "StoreLost": 50,
    "StoreBack": 50,
    "store emptied": 20,
    "store goes back": 10,
    "spared by the others' counts": 1,
    "turned alone and by the store": 1,
}
"""How often the short profile must see what the engine has a mechanism for: without that it proves nothing of it. Its
schedules are the same in each run, until Schedule or Hypothesis changes."""


def test_every_admission_and_state_is_the_references() -> None:
    Schedule.seen.clear()
    run_state_machine_as_test(Schedule, settings=profile(schedules=150, derandomize=True))
    assert {what: Schedule.seen[what] for what, times in AT_LEAST.items() if Schedule.seen[what] < times} == {}


@pytest.mark.parametrize("server", ["redis_server", "valkey_server"])
def test_so_it_is_over_a_real_server(request: pytest.FixtureRequest, server: str) -> None:
    with request.getfixturevalue(server).client() as client:

        class OverServer(Schedule):
            @staticmethod
            def shared(now: Any) -> Any:
                return SharedRedis(client, now)

        run_state_machine_as_test(OverServer, settings=profile(schedules=10, derandomize=True))

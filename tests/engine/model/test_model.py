"""The short profile of the model over every store; `make prove` runs the long one over memory."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import pytest
from hypothesis.stateful import run_state_machine_as_test

from breaker.engine.policy import Policy
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


OVER_A_SERVER = {what: times // 20 for what, times in AT_LEAST.items() if times >= 20} | {"store goes back": 1}
"""A quarter of a fifth, for a fifth as many schedules, and once what is rarest: of so few, each is seen more seldom or
more often."""
RARE = {"spared by the others' counts": 1, "turned alone and by the store": 1}
"""What has a schedule of its own there."""

POLICY = Policy(timeout=3.0, rolling_count_timeout=8.0, rolling_count_buckets=4, reset_timeout=1.0, volume_threshold=3)


def test_every_admission_and_state_is_the_references() -> None:
    Schedule.seen.clear()
    run_state_machine_as_test(Schedule, settings=profile(schedules=150, derandomize=True))
    assert _seldom(Schedule, AT_LEAST) == {}


@pytest.mark.parametrize("server", ["redis_server", "valkey_server"])
def test_so_it_is_over_a_real_server(request: pytest.FixtureRequest, server: str) -> None:
    with request.getfixturevalue(server).client() as client:

        class OverServer(Schedule):
            seen: ClassVar[Counter[str]] = Counter()

            @staticmethod
            def shared(now: Any) -> Any:
                return SharedRedis(client, now)

        _look_and_turn_twice(OverServer)
        assert _seldom(OverServer, RARE) == {}
        run_state_machine_as_test(OverServer, settings=profile(schedules=30, derandomize=True))
        assert _seldom(OverServer, OVER_A_SERVER) == {}


def _look_and_turn_twice(schedule: type[Schedule]) -> None:
    """One's failures alone would open what the others' successes keep closed; an opening's answer is lost."""
    model = schedule()
    model.begin(workers=[(POLICY, 0), (POLICY, 10)], alike=True)
    for step in (
        lambda: model.one_fails_alone(which=0, successes=10),
        lambda: model.a_command_fails(which=1, command="write", how="mute", afresh=True),
        model.all_is_well_for_a_while,
    ):
        step()
        model.agrees()


def _seldom(schedule: type[Schedule], floor: dict[str, int]) -> dict[str, int]:
    """What was seen less often than it must."""
    return {what: schedule.seen[what] for what, times in floor.items() if schedule.seen[what] < times}

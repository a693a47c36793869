"""The short profile of the model over every store; `make prove` runs the long one over memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.model.schedules import Schedule, profile
from tests.engine.model.shared import SharedRedis


def test_every_admission_and_state_is_the_references() -> None:
    run_state_machine_as_test(Schedule, settings=profile(schedules=150, derandomize=True))


@pytest.mark.parametrize("server", ["redis_server", "valkey_server"])
def test_so_it_is_over_a_real_server(request: pytest.FixtureRequest, server: str) -> None:
    with request.getfixturevalue(server).client() as client:

        class OverServer(Schedule):
            @staticmethod
            def shared(now: Any) -> Any:
                return SharedRedis(client, now)

        run_state_machine_as_test(OverServer, settings=profile(schedules=10, derandomize=True))

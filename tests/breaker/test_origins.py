"""Where each option of a breaker comes from."""

from typing import Any

import pytest

from breaker import operations, queries
from breaker.engine.policy import Policy
from breaker.origins import origins
from breaker.registry import Labels, create_circuit_breaker
from tests.breaker.conftest import House


def act(action: str, **more: Any) -> None:
    (done,) = operations.act(["x"], action, actor="ada", source="command", reason="a test", **more)
    assert not done.error


def origin(name: str, option: str) -> tuple[str, str]:
    (entry,) = queries.status([name]).entries
    (found,) = [setting for setting in origins(entry) if setting.option == option]
    return found.value, found.origin


def test_every_option_has_an_origin() -> None:
    create_circuit_breaker(name="x", reset_timeout=10)
    (entry,) = queries.status(["x"]).entries
    assert {setting.option for setting in origins(entry)} == set(Policy.__dataclass_fields__)
    assert origin("x", "reset_timeout") == ("10 s", "code")
    assert origin("x", "timeout") == ("30 s", "default")


def test_options_of_the_settings(settings: Any) -> None:
    settings.BREAKER = {
        "BREAKERS": {"maker": {"timeout": 5, "capacity": 3}, "y": {"timeout": 7}},
        "DEFAULTS": {"volume_threshold": 9, "timeout": 1},
    }
    create_circuit_breaker(name="y", labels=Labels(group="maker"), own=True, volume_threshold=9, timeout=1)
    assert origin("y", "timeout") == ("7 s", 'settings, BREAKER["BREAKERS"], of y')
    assert origin("y", "capacity") == ("3", 'settings, BREAKER["BREAKERS"], of maker')
    assert origin("y", "volume_threshold") == ("9 calls", 'settings, BREAKER["DEFAULTS"]')
    create_circuit_breaker(name="one", volume_threshold=1)
    assert origin("one", "volume_threshold")[0] == "1 call"


def test_options_of_the_environment(settings: Any) -> None:
    settings.BREAKER = {
        "BREAKERS": {"y": {"timeout": 7}},
        "BREAKERS_FROM": "BREAKER_OPTIONS",
        "DEFAULTS": {"volume_threshold": 9, "reset_timeout": 60},
        "DEFAULTS_FROM": {"volume_threshold": "BREAKER_VOLUME_THRESHOLD"},
    }
    create_circuit_breaker(name="y", own=True, volume_threshold=9, reset_timeout=60)
    assert origin("y", "timeout") == ("7 s", "environment, BREAKER_OPTIONS, of y")
    assert origin("y", "volume_threshold") == ("9 calls", "environment, BREAKER_VOLUME_THRESHOLD")
    assert origin("y", "reset_timeout") == ("60 s", "default")


def test_options_of_another_process(house: House) -> None:
    house.elsewhere("z", policy=Policy(timeout=4))
    assert origin("z", "timeout") == ("4 s", "the process that made it")
    assert origin("z", "reset_timeout") == ("60 s", "default")


@pytest.mark.django_db
def test_what_an_operator_said() -> None:
    create_circuit_breaker(name="x")
    act("disable", for_seconds=60)
    assert origin("x", "enabled") == ("no", "operator ada: a test")
    act("open")
    assert origin("x", "enabled") == ("no", "an operator")
    assert origin("x", "force") == ("open", "operator ada: a test")

"""Threads take turns more often while a trip's news travels, and only then."""

import sys
from collections.abc import Iterator

import pytest

from breaker.engine import haste as haste_module
from breaker.engine.haste import TURN, haste, leisure
from tests.programs import wait_for


@pytest.fixture(autouse=True)
def interval() -> Iterator[float]:
    # A thread that another test's breaker has left may be in haste for a moment more.
    wait_for(lambda: haste_module._hurrying == 0, "nobody else is in haste")
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.004)
    yield 0.004
    sys.setswitchinterval(before)


def test_turns_are_short_meanwhile_and_as_before_afterwards(interval: float) -> None:
    with haste():
        assert sys.getswitchinterval() == pytest.approx(TURN)
    assert sys.getswitchinterval() == pytest.approx(interval)


def test_the_last_of_several_gives_the_interval_back(interval: float) -> None:
    with haste():
        with haste():
            pass
        assert sys.getswitchinterval() == pytest.approx(TURN)
    assert sys.getswitchinterval() == pytest.approx(interval)


def test_an_error_gives_the_interval_back(interval: float) -> None:
    with pytest.raises(OSError), haste():
        raise OSError
    assert sys.getswitchinterval() == pytest.approx(interval)


def test_turns_that_are_shorter_already_stay(interval: float) -> None:
    sys.setswitchinterval(TURN / 2)
    with haste():
        assert sys.getswitchinterval() == pytest.approx(TURN / 2, abs=2e-6)


def test_a_child_that_is_forked_meanwhile_is_in_no_hurry(interval: float) -> None:
    haste_module.begin()
    haste_module._after_fork_in_child()
    assert sys.getswitchinterval() == pytest.approx(interval)
    with haste():
        assert sys.getswitchinterval() == pytest.approx(TURN)
    assert sys.getswitchinterval() == pytest.approx(interval)


def test_a_child_forked_in_haste_ends_it_and_can_be_in_haste_again(interval: float) -> None:
    with haste():
        haste_module._after_fork_in_child()
    with haste():
        assert sys.getswitchinterval() == pytest.approx(TURN)
    assert sys.getswitchinterval() == pytest.approx(interval)


def test_others_code_is_given_its_time(interval: float) -> None:
    with haste(), haste():
        with leisure():
            assert sys.getswitchinterval() == pytest.approx(interval)
        assert sys.getswitchinterval() == pytest.approx(TURN)
    assert sys.getswitchinterval() == pytest.approx(interval)
    with leisure():
        pass
    assert sys.getswitchinterval() == pytest.approx(interval)

"""Strategies that answer in place of a call, alone and in chains."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from breaker import fallbacks
from breaker.engine.circuit import CallRejected
from breaker.engine.events import FellBack
from breaker.fallbacks import Chain, FailFast, Fallback, Placeholder, fallback, strategy
from breaker.registry import create_circuit_breaker
from breaker.testing import fail
from tests.breaker.conftest import House

ERROR = ValueError("MIFOS is away")
REJECTED = CallRejected("x", "open", 5)


class Faulty(Fallback):
    def answer(self, call: Any, error: Exception) -> Any:
        raise KeyError("the fallback's own")


@fallback(failures=False)
def for_rejects(call: Any, error: Exception) -> str:
    return "rejected"


def test_fail_fast_has_no_answer() -> None:
    with pytest.raises(ValueError, match="MIFOS is away") as raised:
        FailFast()("call", ERROR)
    assert raised.value is ERROR


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ({"pageItems": []}, {"pageItems": []}),
        (None, None),
        (lambda: 1, 1),
        (lambda error: str(error), "MIFOS is away"),
        (lambda call, error: (call, str(error)), ("call", "MIFOS is away")),
    ],
)
def test_a_placeholder_is_a_value_or_what_a_function_makes(value: Any, answer: Any) -> None:
    assert Placeholder(value).given("call", ERROR) == (answer, "placeholder")


def test_who_changes_a_placeholder_changes_his_own() -> None:
    held = Placeholder({"pageItems": []})
    held("call", ERROR)["pageItems"].append(1)
    assert held("call", ERROR) == {"pageItems": []}


@pytest.mark.parametrize("made", [for_rejects, Placeholder("rejected", failures=False)])
def test_a_strategy_may_be_for_rejected_calls_alone(made: Fallback) -> None:
    assert made("call", REJECTED) == "rejected"
    with pytest.raises(ValueError, match="MIFOS is away"):
        made("call", ERROR)


def test_a_chain_gives_the_first_answer_there_is() -> None:
    chain = FailFast() | for_rejects | (lambda call, error: f"{call} failed")
    assert isinstance(chain, Chain)
    assert len(chain.strategies) == 3
    assert chain.given("call", REJECTED) == ("rejected", "custom")
    assert chain.given("call", ERROR) == ("call failed", "custom")
    assert ((lambda: "first") | Placeholder("second")).given("call", ERROR) == ("first", "custom")


def test_an_error_of_one_leaves_it_to_the_next() -> None:
    assert (Faulty() | Placeholder(1)).given("call", ERROR) == (1, "placeholder")


def test_a_chain_without_an_answer_raises_what_went_wrong_with_it() -> None:
    with pytest.raises(KeyError):
        (Faulty() | FailFast())("call", ERROR)
    with pytest.raises(ValueError, match="MIFOS is away"):
        (FailFast() | for_rejects)("call", ERROR)


def test_a_chain_with_a_placeholder_is_for_reads() -> None:
    assert (for_rejects | Placeholder(1)).reads_only
    assert not (for_rejects | FailFast()).reads_only


@pytest.mark.parametrize("nonsense", ["branches", 5, None])
def test_what_is_no_strategy_is_refused(nonsense: Any) -> None:
    with pytest.raises(TypeError, match="a strategy such as Placeholder"):
        strategy(nonsense)


def test_the_examples_hold() -> None:
    assert doctest.testmod(fallbacks).failed == 0


def test_a_breaker_takes_strategies(house: House) -> None:
    heard: list[Any] = []
    house.here.tell = heard.append
    fetch = create_circuit_breaker(lambda: 1 / 0, name="x", fallback=for_rejects | FailFast())
    with pytest.raises(ZeroDivisionError):
        fetch()
    assert [event for event in heard if isinstance(event, FellBack)] == []
    fail(fetch.breaker, 4)
    assert fetch() == "rejected"
    (told,) = [event for event in heard if isinstance(event, FellBack)]
    assert told.breaker == "x"


def test_a_faulty_strategy_is_the_cause_of_the_calls_error(house: House) -> None:
    fetch = create_circuit_breaker(lambda: 1 / 0, name="x", fallback=Faulty())
    with pytest.raises(ZeroDivisionError) as raised:
        fetch()
    assert isinstance(raised.value.__cause__, KeyError)

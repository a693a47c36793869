"""Strategies that answer in place of a call, alone and in chains."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from breaker import fallbacks
from breaker.engine.circuit import CallRejected
from breaker.engine.events import FallbackFailed, FellBack
from breaker.engine.policy import PolicyError
from breaker.fallbacks import Chain, FailFast, Fallback, Placeholder, fallback, strategy
from breaker.registry import create_circuit_breaker
from breaker.testing import fail
from tests.breaker.conftest import House

ERROR = ValueError("MIFOS is away")
REJECTED = CallRejected("x", "open", 5)


class Faulty(Fallback):
    def answer(self, call: Any, error: Exception) -> Any:
        raise KeyError("the fallback's own")


def given(asked: Fallback, error: Exception) -> tuple[Any, str]:
    found = asked.given("call", error, rejected=error is REJECTED)
    return found.answer, found.provenance


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
    assert given(Placeholder(value), ERROR) == (answer, "placeholder")


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
    assert given(chain, REJECTED) == ("rejected", "custom")
    assert given(chain, ERROR) == ("call failed", "custom")
    assert given((lambda: "first") | Placeholder("second"), ERROR) == ("first", "custom")


def test_an_error_of_one_leaves_it_to_the_next() -> None:
    assert given(Faulty() | Placeholder(1), ERROR) == (1, "placeholder")


def test_a_chain_without_an_answer_raises_what_went_wrong_with_it() -> None:
    with pytest.raises(KeyError):
        (Faulty() | FailFast())("call", ERROR)
    with pytest.raises(ValueError, match="MIFOS is away"):
        (FailFast() | for_rejects)("call", ERROR)


def test_a_chain_with_a_placeholder_is_for_reads() -> None:
    assert (for_rejects | Placeholder(1)).reads_only
    assert not (for_rejects | FailFast()).reads_only


@pytest.mark.parametrize("nonsense", ["branches", 5, None, Placeholder])
def test_what_is_no_strategy_is_refused(nonsense: Any) -> None:
    with pytest.raises(TypeError, match="is needed"):
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


def test_a_breaker_refuses_what_is_no_strategy_when_it_is_made(house: House) -> None:
    with pytest.raises(PolicyError, match="fallback: dict is none"):
        create_circuit_breaker(lambda: 1, name="x", fallback={"name": "Jane Doe"})  # type: ignore[arg-type]


def test_an_inner_breakers_reject_is_no_reject_of_ours(house: House) -> None:
    """Who asks for rejected calls alone must not hear of one that has begun."""
    inner = create_circuit_breaker(lambda: 1, name="inner")
    fail(inner.breaker, 5)
    outer = create_circuit_breaker(inner, name="outer", fallback=for_rejects)
    with pytest.raises(CallRejected):
        outer()
    fail(outer.breaker, 4)
    assert outer() == "rejected"


async def test_in_a_chain_an_async_one_that_fails_leaves_it_to_the_next(house: House) -> None:
    heard: list[Any] = []
    house.here.tell = heard.append

    @fallback
    async def replica(call: Any, error: Exception) -> Any:
        raise KeyError("the replica is away too")

    async def fetch() -> int:
        raise ERROR

    assert await create_circuit_breaker(fetch, name="x", fallback=replica | Placeholder([]))() == []
    (told,) = [event for event in heard if isinstance(event, FallbackFailed)]
    assert isinstance(told.error, KeyError)


def test_an_async_one_cannot_answer_for_a_plain_function(house: House) -> None:
    async def replica() -> int:
        return 1

    with pytest.raises(PolicyError, match="an async one"):
        create_circuit_breaker(lambda: 1, name="x", fallback=FailFast() | replica)


def test_a_callables_own_attributes_stay_its_own() -> None:
    class Lookup:
        answer = provenance = "its own"

        def __call__(self, call: Any, error: Exception) -> int:
            return 1

    lookup = Lookup()
    lookup.__dict__["answer"] = "its own"
    assert given(strategy(lookup), ERROR) == (1, "custom")


def test_the_errors_of_fallbacks_are_told_once_a_second_and_not_quoted(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    fetch = create_circuit_breaker(lambda: 1 / 0, name="x", fallback=Faulty() | Placeholder(1))
    for _ in range(3):
        assert fetch() == 1
    told = [record.getMessage() for record in caplog.records if "fallback failed" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("x fallback failed: KeyError (in answer, test_fallbacks.py:")


def test_a_faulty_strategy_is_the_cause_of_the_calls_error(house: House) -> None:
    fetch = create_circuit_breaker(lambda: 1 / 0, name="x", fallback=Faulty())
    with pytest.raises(ZeroDivisionError) as raised:
        fetch()
    assert isinstance(raised.value.__cause__, KeyError)

"""create_circuit_breaker: options, names, and every way to put a breaker around a call."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async

from breaker import queries
from breaker.engine.circuit import CallRejected
from breaker.engine.policy import Policy, PolicyError
from breaker.engine.sync import Sync
from breaker.engine.window import Outcome, Totals
from breaker.registry import Guarded, Labels, create_circuit_breaker, get_breaker
from breaker.testing import Failure, fail
from tests.breaker.conftest import House
from tests.programs import RedisServer


def boom(*args: Any) -> None:
    raise Failure("boom")


def open_up(guarded: Guarded) -> None:
    fail(guarded.breaker, 5)
    assert guarded.breaker.current_state == "open"


def counts(guarded: Guarded) -> Totals:
    totals: Totals = guarded.breaker._own_totals()
    return totals


# -- options -----------------------------------------------------------------------------------------------------------


def test_options_in_code_make_the_policy() -> None:
    policy = create_circuit_breaker(boom, timeout=5, error_threshold_percentage=30).breaker.policy
    assert (policy.timeout, policy.error_threshold_percentage, policy.reset_timeout) == (5, 30, 60)


def test_the_settings_win_over_code_and_the_name_over_the_group(settings: Any) -> None:
    settings.BREAKER = {"BREAKERS": {"bank": {"timeout": 7, "reset_timeout": 8}, "balance": {"reset_timeout": 9}}}
    guarded = create_circuit_breaker(
        boom, name="balance", labels=Labels(group="bank"), timeout=5, reset_timeout=5, volume_threshold=6
    )
    policy = guarded.breaker.policy
    assert (policy.timeout, policy.reset_timeout, policy.volume_threshold) == (7, 9, 6)


def test_the_settings_of_others_do_not_count(settings: Any) -> None:
    settings.BREAKER = {"DEFAULTS": {"timeout": 7}, "BREAKERS": {"other": {"timeout": 8}}}
    assert create_circuit_breaker(boom, name="balance").breaker.policy.timeout == 30


def test_an_unknown_option_is_named_with_the_closest() -> None:
    with pytest.raises(PolicyError, match="errorThresholdPercentage: no such option; did you mean error_threshold"):
        create_circuit_breaker(boom, errorThresholdPercentage=50)


def test_milliseconds_are_recognised() -> None:
    with pytest.raises(PolicyError, match=r"timeout=5000: seconds, not milliseconds"):
        create_circuit_breaker(boom, timeout=5000)


def test_a_bad_option_leaves_no_breaker_behind() -> None:
    with pytest.raises(PolicyError):
        create_circuit_breaker(boom, name="balance", timeout=0)
    with pytest.raises(LookupError):
        get_breaker("balance")


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["status", "health", "events", "metrics", "Status", "breakerevent", "operatoract"])
def test_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="reserved"):
        create_circuit_breaker(boom, name=name)


@pytest.mark.parametrize("name", ["", ".x", "a b", "a/b", "x" * 101, "ü", "x\n", 7])
def test_a_bad_name_is_refused(name: Any) -> None:
    with pytest.raises(PolicyError, match="name="):
        create_circuit_breaker(boom, name=name)


def test_a_name_is_needed_where_no_function_gives_one() -> None:
    with pytest.raises(PolicyError, match="name: needed"):
        create_circuit_breaker(timeout=5)


def test_the_default_name_is_the_functions_qualified_name() -> None:
    assert create_circuit_breaker(boom).breaker.name == "tests.breaker.test_registry.boom"


def test_a_local_functions_name_is_made_fit() -> None:
    def local() -> None: ...

    name = create_circuit_breaker(local).breaker.name
    assert name == "tests.breaker.test_registry.test_a_local_functions_name_is_made_fit.locals.local"


def test_a_long_name_keeps_its_end_which_tells_two_apart() -> None:
    first, second = (type("f", (), {"__call__": boom, "__qualname__": "x" * 120 + end})() for end in ("1", "2"))
    names = {create_circuit_breaker(one).breaker.name for one in (first, second)}
    assert len(names) == 2


def test_a_partial_bears_the_name_of_its_function() -> None:
    guarded = create_circuit_breaker(functools.partial(boom, 1))
    assert guarded.breaker.name == "tests.breaker.test_registry.boom"


def test_get_breaker_finds_it_by_name() -> None:
    assert get_breaker(create_circuit_breaker(boom, name="x").breaker.name).name == "x"


def test_get_breaker_says_which_there_are() -> None:
    create_circuit_breaker(boom, name="balance")
    with pytest.raises(LookupError, match=r"no breaker 'y' here; there are balance"):
        get_breaker("y")


def test_the_same_name_with_the_same_options_shares_the_circuit() -> None:
    first, second = create_circuit_breaker(boom, name="x"), create_circuit_breaker(len, name="x", timeout=30)
    assert first.breaker is second.breaker


@pytest.mark.parametrize(
    "other",
    [
        {"timeout": 6},
        {"labels": Labels(service="other")},
        {"error_filter": [Failure]},
        {"is_failure": bool},
        {"classify": lambda result, error: Outcome.SUCCESS},
    ],
)
def test_the_same_name_made_otherwise_is_an_error(other: dict[str, Any]) -> None:
    create_circuit_breaker(boom, name="x")
    with pytest.raises(PolicyError, match="name='x': a breaker of this name was made differently here"):
        create_circuit_breaker(boom, name="x", **other)


# -- as a function, a decorator, a method ------------------------------------------------------------------------------


def test_a_guarded_function_answers_as_the_function() -> None:
    assert create_circuit_breaker(int, name="x")("12", base=8) == 10


def test_a_guarded_function_looks_like_the_function() -> None:
    def balance(account: str) -> int:
        """What is left."""
        return 1

    guarded: Any = create_circuit_breaker(balance, name="x")
    assert (guarded.__name__, guarded.__doc__, guarded.__wrapped__) == ("balance", "What is left.", balance)


def test_it_decorates_without_parentheses() -> None:
    @create_circuit_breaker
    def seven() -> int:
        return 7

    assert (seven(), counts(seven).successes) == (7, 1)


def test_it_decorates_with_options() -> None:
    @create_circuit_breaker(name="x", timeout=5)
    def seven() -> int:
        return 7

    assert (seven(), seven.breaker.name, seven.breaker.policy.timeout) == (7, "x", 5)


def test_it_guards_a_method() -> None:
    class Bank:
        @create_circuit_breaker(name="x")
        def me(self, more: int) -> Any:
            return self, more

    bank = Bank()
    assert bank.me(3) == (bank, 3)


def test_a_bound_method_carries_its_breaker() -> None:
    class Bank:
        @create_circuit_breaker(name="x")
        def me(self) -> None: ...

    assert Bank().me.breaker is get_breaker("x")


async def test_an_async_method_is_known_as_async_also_when_bound() -> None:
    class Bank:
        @create_circuit_breaker(name="x")
        async def me(self) -> Any:
            return self

    bank = Bank()
    assert iscoroutinefunction(bank.me)
    assert await bank.me() is bank


def test_an_open_circuit_rejects_without_calling() -> None:
    guarded = create_circuit_breaker(pytest.fail, name="x")
    open_up(guarded)
    with pytest.raises(CallRejected):
        guarded("called")


# -- as a context manager ----------------------------------------------------------------------------------------------


def test_a_block_is_guarded() -> None:
    guard = create_circuit_breaker(name="x")
    with guard:
        pass
    with pytest.raises(Failure), guard:
        raise Failure
    assert (counts(guard).successes, counts(guard).failures) == (1, 1)


def test_an_open_circuit_keeps_the_block_from_running() -> None:
    guard = create_circuit_breaker(name="x")
    open_up(guard)
    with pytest.raises(CallRejected), guard:
        pytest.fail("entered")


def test_blocks_nest(house: House) -> None:
    guard = create_circuit_breaker(name="x", timeout=5)
    with guard:
        house.clock.advance(6)
        with pytest.raises(Failure), guard:
            raise Failure
    assert (counts(guard).failures, counts(guard).timeouts) == (1, 1)


def test_a_rejected_block_leaves_the_one_around_it_alone() -> None:
    outer, inner = create_circuit_breaker(name="outer"), create_circuit_breaker(name="inner")
    open_up(inner)
    with outer, pytest.raises(CallRejected), inner:
        pass
    assert counts(outer).successes == 1


def test_threads_have_blocks_of_their_own(house: House) -> None:
    guard, inside, leave = create_circuit_breaker(name="x", timeout=5), threading.Event(), threading.Event()

    def stay() -> None:
        with guard:
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(5)
    house.clock.advance(6)
    with guard:
        pass
    assert counts(guard).successes == 1  # the block here, not the one that began 6 s ago
    leave.set()
    thread.join(5)
    assert counts(guard).timeouts == 1


async def test_tasks_of_one_thread_have_blocks_of_their_own(house: House) -> None:
    guard, inside, leave = create_circuit_breaker(name="x", timeout=5), asyncio.Event(), asyncio.Event()

    async def stay() -> None:
        with guard:
            inside.set()
            await leave.wait()

    async def pass_through() -> None:
        with guard:
            leave.set()
            await early

    early = asyncio.create_task(stay())
    await inside.wait()
    house.clock.advance(6)
    with guard.breaker.calling():
        pass
    await pass_through()
    assert (counts(guard).successes, counts(guard).timeouts) == (2, 1)


# -- async def ---------------------------------------------------------------------------------------------------------


async def test_an_async_function_is_guarded() -> None:
    @create_circuit_breaker(name="x")
    async def answer(value: int) -> int:
        return value

    assert (await answer(7), counts(answer).successes) == (7, 1)


def test_an_async_function_stays_one_for_django() -> None:
    @create_circuit_breaker(name="x")
    async def answer() -> None: ...

    assert iscoroutinefunction(answer)


def test_a_plain_function_does_not_become_async() -> None:
    assert not iscoroutinefunction(create_circuit_breaker(boom))


class AsyncCallable:
    async def __call__(self) -> None:
        raise Failure


@pytest.mark.parametrize("func", [AsyncCallable(), functools.partial(AsyncCallable()), sync_to_async(boom)])
async def test_what_else_is_awaited_is_guarded_too(func: Any) -> None:
    guarded = create_circuit_breaker(func, name="x")
    with pytest.raises(Failure):
        await guarded()
    assert (counts(guarded).successes, counts(guarded).failures) == (0, 1)


async def test_what_was_guarded_may_be_guarded_again() -> None:
    inner = create_circuit_breaker(AsyncCallable(), name="inner")
    outer = create_circuit_breaker(inner, name="outer")
    with pytest.raises(Failure):
        await outer()
    assert counts(outer).failures == 1


async def test_an_async_function_is_cancelled_at_its_timeout_and_its_fallback_answers() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    guarded = create_circuit_breaker(hang, name="x", timeout=0.02, fallback=lambda error: type(error))
    assert await guarded() is TimeoutError
    assert counts(guarded).timeouts == 1


async def test_a_fallback_may_be_async() -> None:
    async def instead() -> str:
        return "instead"

    async def fails() -> None:
        raise Failure

    guarded = create_circuit_breaker(fails, name="x", fallback=instead)
    assert (await guarded(), counts(guarded).fallbacks) == ("instead", 1)


async def test_an_async_fallback_that_fails_is_the_cause_of_the_original_error() -> None:
    async def instead() -> None:
        raise KeyError

    async def fails() -> None:
        raise Failure

    guarded = create_circuit_breaker(fails, name="x", fallback=instead)
    with pytest.raises(Failure) as raised:
        await guarded()
    assert isinstance(raised.value.__cause__, KeyError)
    assert counts(guarded).fallbacks == 0


# -- fallbacks ---------------------------------------------------------------------------------------------------------


def test_a_fallback_of_two_parameters_gets_the_call_and_the_error() -> None:
    guarded = create_circuit_breaker(boom, name="x", fallback=lambda call, error: (call, error))
    call, error = guarded(1, 2)
    assert (call.breaker, call.args, call.kwargs, type(error)) == ("x", (1, 2), {}, Failure)


def test_a_fallback_of_one_parameter_gets_the_error() -> None:
    assert isinstance(create_circuit_breaker(boom, name="x", fallback=lambda error: error)(), Failure)


def test_a_fallback_without_parameters_gets_nothing() -> None:
    assert create_circuit_breaker(boom, name="x", fallback=lambda: "nothing")() == "nothing"


def test_a_fallback_of_any_number_gets_both() -> None:
    assert len(create_circuit_breaker(boom, name="x", fallback=lambda *both: both)()) == 2


def test_a_fallback_may_be_a_bound_method() -> None:
    class Answers:
        def instead(self, error: Exception) -> tuple[Any, type]:
            return self, type(error)

    answers = Answers()
    assert create_circuit_breaker(boom, name="x", fallback=answers.instead)() == (answers, Failure)


def test_a_fallback_need_not_be_hashable() -> None:
    class Answers(list[str]):
        def __call__(self) -> str:
            return "list"

    assert create_circuit_breaker(boom, name="x", fallback=Answers())() == "list"


def test_a_fallback_answers_on_a_reject_which_counts_once() -> None:
    guarded = create_circuit_breaker(pytest.fail, name="x", fallback=lambda error: error.retry_after)
    open_up(guarded)
    assert (guarded(), counts(guarded).rejects, counts(guarded).fallbacks) == (60, 1, 1)


def test_a_fallback_answers_on_a_timeout() -> None:
    def late() -> None:
        raise TimeoutError

    guarded = create_circuit_breaker(late, name="x", fallback=lambda: "instead")
    assert (guarded(), counts(guarded).timeouts, counts(guarded).fallbacks) == ("instead", 1, 1)


def test_a_fallback_does_not_change_what_the_call_counts_as() -> None:
    guarded = create_circuit_breaker(boom, name="x", fallback=lambda: "instead")
    for _ in range(5):
        guarded()
    assert guarded.breaker.current_state == "open"


def test_a_fallback_does_not_answer_for_a_filtered_error() -> None:
    guarded = create_circuit_breaker(boom, name="x", error_filter=[Failure], fallback=lambda: "instead")
    with pytest.raises(Failure):
        guarded()
    assert counts(guarded).fallbacks == 0


def test_a_fallback_does_not_answer_for_an_interruption() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_circuit_breaker(stop, name="x", fallback=lambda: "instead")()


def test_a_failing_fallback_is_the_cause_of_the_original_error() -> None:
    def instead(error: Exception) -> None:
        raise KeyError("mine")

    guarded = create_circuit_breaker(boom, name="x", fallback=instead)
    with pytest.raises(Failure) as raised:
        guarded()
    assert isinstance(raised.value.__cause__, KeyError)
    assert counts(guarded).fallbacks == 0


def test_a_failing_fallback_on_a_reject_raises_the_rejection() -> None:
    guarded = create_circuit_breaker(boom, name="x", fallback=lambda: 1 / 0)
    open_up(guarded)
    with pytest.raises(CallRejected) as raised:
        guarded()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_fallback_that_gives_up_by_raising_the_error_leaves_it_as_it_was() -> None:
    def instead(error: Exception) -> None:
        raise error

    with pytest.raises(Failure) as raised:
        create_circuit_breaker(boom, name="x", fallback=instead)()
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("explicitly", [True, False])
def test_a_failing_fallbacks_error_does_not_lead_back_to_the_original(explicitly: bool) -> None:
    def instead(error: Exception) -> None:
        raise KeyError from error if explicitly else None

    with pytest.raises(Failure) as raised:
        create_circuit_breaker(boom, name="x", fallback=instead)()
    fault = raised.value.__cause__
    assert fault is not None
    assert (fault.__cause__, fault.__context__) == (None, None)


def test_a_rejection_that_the_function_met_elsewhere_is_a_failure_here() -> None:
    inner = create_circuit_breaker(boom, name="inner")
    open_up(inner)
    outer = create_circuit_breaker(inner, name="outer", fallback=lambda: "instead")
    assert outer() == "instead"
    assert (counts(outer).failures, counts(outer).fallbacks) == (1, 1)


# -- what counts -------------------------------------------------------------------------------------------------------


def test_error_filter_is_what_does_not_count() -> None:
    guarded = create_circuit_breaker(boom, name="x", error_filter=lambda error: "boom" in str(error))
    with pytest.raises(Failure):
        guarded()
    assert (counts(guarded).successes, counts(guarded).failures) == (1, 0)


def test_is_failure_is_which_results_count() -> None:
    guarded = create_circuit_breaker(lambda: 503, name="x", is_failure=lambda status: status >= 500)
    assert (guarded(), counts(guarded).failures) == (503, 1)


def test_classify_replaces_both() -> None:
    guarded = create_circuit_breaker(
        boom, name="x", classify=lambda result, error: Outcome.SUCCESS, is_failure=lambda result: True
    )
    with pytest.raises(Failure):
        guarded()
    assert counts(guarded).successes == 1


# -- breakers from elsewhere -------------------------------------------------------------------------------------------


def names() -> list[str]:
    return [entry.name for entry in queries.status().entries]


def test_a_breaker_made_elsewhere_appears_with_its_own_options(house: House) -> None:
    house.elsewhere("theirs", policy=Policy(timeout=5), labels=Labels(service="Bank"))
    (entry,) = queries.status().entries
    assert (entry.name, entry.policy.timeout, entry.labels) == ("theirs", 5, Labels(service="Bank"))


def test_a_breaker_made_elsewhere_appears_with_its_counts(house: House) -> None:
    fail(house.elsewhere("theirs"), 3)
    (entry,) = queries.status().entries
    assert entry.totals.failures == 3


def test_labels_that_a_newer_version_registered_are_passed_over(house: House) -> None:
    class NewerLabels(Labels):
        def as_dict(self) -> dict[str, str]:
            return {"service": "Bank", "region": "north"}

    house.elsewhere("theirs", labels=NewerLabels())
    assert queries.status().entries[0].labels == Labels(service="Bank")


def test_a_breaker_unseen_for_a_day_vanishes(house: House) -> None:
    house.elsewhere("theirs")
    house.workers.remove(house.there)
    house.clock.advance(24 * 3600 - 60)
    assert names() == ["theirs"]
    house.clock.advance(120)
    assert names() == []


def test_a_breaker_of_a_living_process_stays(house: House) -> None:
    house.elsewhere("theirs")
    for _ in range(25):
        house.clock.advance(3600)
        house.beat()
    assert names() == ["theirs"]


def test_over_redis_a_breaker_unseen_for_a_day_vanishes(
    over_redis: Callable[[], Sync], redis_server: RedisServer
) -> None:
    theirs = over_redis()
    create_circuit_breaker(boom, name="theirs")
    theirs.beat()
    over_redis()
    assert names() == ["theirs"]
    with redis_server.client() as client:
        (seen,) = client.keys("*:names")
        client.zincrby(seen, -24 * 3600 * 1000, "theirs")
    assert names() == []

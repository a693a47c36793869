"""The log's messages, and listeners that fail."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from breaker import listeners
from breaker.engine import events
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.machine import State
from breaker.registry import Labels, create_circuit_breaker
from breaker.testing import Failure, fail, rejected, succeed
from tests.breaker.conftest import House

MIFOS = Labels(service="MIFOS", group="maker", key="get")


class Answer:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


@pytest.fixture(autouse=True)
def _every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "breaker")


@pytest.fixture
def breaker() -> SharedCircuitBreaker:
    return create_circuit_breaker(name="MIFOS-Maker-get", labels=MIFOS).breaker


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[logging.LogRecord]]:
    """The records whose message begins so."""

    def find(message: str) -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.getMessage().startswith(message)]

    return find


Said = Callable[[str], list[logging.LogRecord]]

# -- transitions -------------------------------------------------------------------------------------------------------


def test_opening_is_an_error_with_its_evidence(breaker: SharedCircuitBreaker, said: Said) -> None:
    succeed(breaker, 2)
    fail(breaker, 3)
    (record,) = said("Circuit breaker OPENED - MIFOS API is failing")
    fields = vars(record)
    assert (record.name, record.levelname, fields["breaker"]) == ("breaker", "ERROR", "MIFOS-Maker-get")
    names = ("errorRate", "successes", "failures", "timeouts", "processes", "hosts")
    assert [fields[name] for name in names] == [60, 2, 3, 0, 1, 1]


def test_a_text_line_shows_the_evidence_too(breaker: SharedCircuitBreaker, said: Said) -> None:
    fail(breaker, 5)
    (record,) = said("Circuit breaker OPENED")
    assert record.getMessage() == (
        f"Circuit breaker OPENED - MIFOS API is failing [breaker=MIFOS-Maker-get generation={breaker.snapshot.id} "
        "successes=0 failures=5 timeouts=0 errorRate=100.0 processes=1 hosts=1 errors=Failure]"
    )


def test_half_opening_is_a_warning(house: House, breaker: SharedCircuitBreaker, said: Said) -> None:
    fail(breaker, 5)
    house.advance(60)
    (record,) = said("Circuit breaker HALF-OPEN - Testing MIFOS recovery")
    assert (record.levelname, vars(record)["breaker"]) == ("WARNING", "MIFOS-Maker-get")


def test_what_a_process_turned_alone_is_marked(house: House, breaker: SharedCircuitBreaker, said: Said) -> None:
    house.lose_store()
    fail(breaker, 5)
    house.advance(60)
    succeed(breaker)
    records = said("Circuit breaker")
    assert [vars(record)["alone"] for record in records] == [True] * 3
    assert vars(records[-1])["generation"] == breaker.snapshot.id


def test_closing_is_information(house: House, breaker: SharedCircuitBreaker, said: Said) -> None:
    fail(breaker, 5)
    house.advance(60)
    succeed(breaker)
    (record,) = said("Circuit breaker CLOSED - MIFOS API recovered")
    assert (record.levelname, vars(record)["breaker"]) == ("INFO", "MIFOS-Maker-get")


def test_a_transition_that_another_process_made_is_not_logged_here(house: House, said: Said) -> None:
    here = create_circuit_breaker(name="x").breaker
    fail(SharedCircuitBreaker("x", sync=house.there), 5)
    house.beat()
    assert (here.current_state, said("Circuit breaker")) == ("open", [])


def test_without_a_service_the_line_speaks_of_the_breaker(said: Said) -> None:
    fail(create_circuit_breaker(name="balance").breaker, 5)
    assert said("Circuit breaker OPENED - balance API is failing")


# -- calls -------------------------------------------------------------------------------------------------------------


def test_a_success_is_told_for_debugging_with_its_latency(
    house: House, breaker: SharedCircuitBreaker, said: Said
) -> None:
    house.here.verbose = True
    breaker.call(house.clock.advance, 0.25)
    (record,) = said("MIFOS request succeeded (latency: 250ms)")
    assert record.levelname == "DEBUG"


def test_a_failure_is_a_warning_with_the_error(breaker: SharedCircuitBreaker, said: Said) -> None:
    with pytest.raises(Failure):
        breaker.call(_raise, Failure("broken off"))
    (record,) = said("MIFOS request failed: Failure")
    assert record.levelname == "WARNING"


def test_an_errors_text_is_shown_only_where_it_is_meant_for_the_log(breaker: SharedCircuitBreaker, said: Said) -> None:
    class Meant(Failure):
        log_message = "connection refused"

    for error in (Failure("Asha Rao, born 1990"), Meant("Asha Rao, born 1990")):
        with pytest.raises(Failure):
            breaker.call(_raise, error)
    assert said("MIFOS request failed: Meant: connection refused")
    assert not said("Asha")


def test_an_answer_that_counts_as_a_failure_is_told_by_its_status(said: Said) -> None:
    guarded = create_circuit_breaker(Answer, name="x", labels=MIFOS, is_failure=lambda answer: True)
    guarded(503)
    assert said("MIFOS request failed: status 503")


def test_another_result_that_counts_as_a_failure_is_not_shown(said: Said) -> None:
    create_circuit_breaker(lambda: "secret", name="x", is_failure=bool)()
    assert said("x request failed: the result counts as a failure")
    assert not [record for record in said("") if "secret" in record.getMessage()]


def test_a_timeout_is_a_warning_with_its_limit(breaker: SharedCircuitBreaker, said: Said) -> None:
    fail(breaker, error=TimeoutError)
    (record,) = said("MIFOS request timed out (timeout: 30000ms)")
    assert record.levelname == "WARNING"


def test_a_reject_is_a_warning(breaker: SharedCircuitBreaker, said: Said) -> None:
    fail(breaker, 5)
    assert rejected(breaker)
    (record,) = said("MIFOS request rejected - circuit is OPEN")
    assert record.levelname == "WARNING"


def test_a_reject_during_a_trial_says_so(house: House, breaker: SharedCircuitBreaker, said: Said) -> None:
    fail(breaker, 5)
    house.advance(60)
    breaker.admit()
    assert rejected(breaker)
    assert said("MIFOS request rejected - circuit is HALF-OPEN and its trial call is running")


def test_a_reject_for_want_of_room_says_so(breaker: SharedCircuitBreaker, said: Said) -> None:
    breaker.refuse("bulkhead")
    assert said("MIFOS request rejected - too many calls are in flight")


def test_a_fallback_is_a_warning(said: Said) -> None:
    create_circuit_breaker(_raise, name="x", labels=MIFOS, fallback=lambda: None)(Failure())
    (record,) = said("MIFOS request answered by its fallback")
    assert record.levelname == "WARNING"


# -- an outage does not flood the log ----------------------------------------------------------------------------------


def test_of_many_rejects_one_a_second_is_logged_with_how_many_were_left_out(
    house: House, breaker: SharedCircuitBreaker, said: Said
) -> None:
    fail(breaker, 5)
    for _ in range(100):
        assert rejected(breaker)
    house.clock.advance(1)
    assert rejected(breaker)
    first, second = said("MIFOS request rejected")
    assert "leftOut" not in vars(first)
    assert vars(second)["leftOut"] == 99
    assert second.getMessage().endswith("leftOut=99]")


def test_of_many_failures_ten_a_second_are_logged(said: Said, house: House) -> None:
    breaker = create_circuit_breaker(name="x", volume_threshold=1000).breaker
    fail(breaker, 25)
    house.clock.advance(1)
    fail(breaker)
    logged = [vars(record).get("leftOut", 0) for record in said("x request failed")]
    assert logged == [0] * 10 + [15]


def test_every_transition_is_logged_however_many(house: House, said: Said) -> None:
    for number in range(20):
        fail(create_circuit_breaker(name=f"x{number}").breaker, 5)
    assert len(said("Circuit breaker OPENED")) == 20


# -- the shared store --------------------------------------------------------------------------------------------------


def test_losing_and_finding_the_store_is_one_line_each(house: House, breaker: SharedCircuitBreaker, said: Said) -> None:
    house.lose_store()
    for _ in range(3):
        succeed(breaker)
        house.advance(5)
    house.cable.cut = False
    house.advance(10)
    (lost,), (back,) = said("Shared breaker state lost"), said("Shared breaker state is back")
    assert (lost.levelname, back.levelname) == ("ERROR", "WARNING")


def test_a_tick_tells_every_breaker_for_debugging(house: House, breaker: SharedCircuitBreaker, said: Said) -> None:
    house.elsewhere("theirs")
    listeners.tell(events.Tick())
    records = said("Circuit breaker ")
    assert {vars(record)["snapshot"]["name"] for record in records} == {"MIFOS-Maker-get", "theirs"}
    assert {record.levelname for record in records} == {"DEBUG"}


# -- listeners ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    told: list[Any] = []
    listeners.add(told.append)
    yield told
    listeners.remove(told.append)


def test_a_listener_hears_events(breaker: SharedCircuitBreaker, heard: list[Any]) -> None:
    fail(breaker, 5)
    (event,) = [event for event in heard if isinstance(event, events.Transitioned)]
    assert (event.breaker, event.labels, event.before, event.after) == (
        "MIFOS-Maker-get",
        MIFOS,
        State.CLOSED,
        State.OPEN,
    )


def test_a_removed_listener_hears_no_more(breaker: SharedCircuitBreaker) -> None:
    told: list[Any] = []
    listeners.add(told.append)
    listeners.remove(told.append)
    fail(breaker)
    assert told == []


@pytest.fixture
def _a_failing_listener() -> Iterator[None]:
    def broken(event: Any) -> None:
        raise RuntimeError("a listener's own fault")

    listeners.add(broken)
    yield
    listeners.remove(broken)


@pytest.mark.usefixtures("_a_failing_listener")
def test_a_failing_listener_harms_no_call(breaker: SharedCircuitBreaker, said: Said) -> None:
    with pytest.raises(Failure):
        breaker.call(_raise, Failure())
    assert said("a listener failed on Failed")


@pytest.mark.usefixtures("_a_failing_listener")
def test_a_failing_listener_keeps_no_other_from_hearing(breaker: SharedCircuitBreaker, heard: list[Any]) -> None:
    fail(breaker)
    assert len(heard) == 1


class FullDisk(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space left on device")


def test_a_log_that_fails_harms_no_call(breaker: SharedCircuitBreaker) -> None:
    full, logger = FullDisk(), logging.getLogger("breaker")
    logger.addHandler(full)
    try:
        with pytest.raises(Failure):
            breaker.call(_raise, Failure())
    finally:
        logger.removeHandler(full)


def _raise(error: Exception) -> None:
    raise error

"""Each rule about what comes back goes red on a recording that breaks it, and stays calm where it must."""

import dataclasses

import pytest

from tests.chaos.recording import NO_ANSWER, Born, Stall
from tests.chaos.story import FIRST, REJECTED, SECOND, STEADY, THIRD, X, half_opened, opened

FAILS = {"no_call_fails_but_by_mifos"}


@pytest.mark.parametrize(
    ("status", "error"), [(500, ""), (500, "INTERNAL_ERROR"), (502, "BAD_GATEWAY"), (504, "GATEWAY_TIMEOUT"), (404, "")]
)
def test_a_failure_that_mifos_has_not_made(story, status, error):
    story.call(1.0, status, error=error)
    assert story.broken() == FAILS


def test_a_failure_that_mifos_has_made(story):
    story.call(1.0, 502, error="BAD_GATEWAY", fault="reset")
    assert story.broken() == set()


def test_a_failure_of_a_call_that_never_reached_mifos(story):
    story.call(1.0, 502, error="BAD_GATEWAY", reaches=False)
    assert story.broken() == FAILS


def test_a_token_that_is_not_known_for_once(story):
    story.call(1.0, 503, error="TOKENS_UNAVAILABLE", reaches=False)
    assert story.broken() == FAILS


def test_a_connection_that_breaks_for_nothing(story):
    story.call(1.0, NO_ANSWER, pid=None)
    assert story.broken() == FAILS


def test_a_connection_that_breaks_with_its_worker(story):
    story.call(1.0, NO_ANSWER, pid=None)
    story.kill(FIRST, 1.005)
    assert story.broken() == set()


def test_a_connection_that_breaks_with_another_gateways_worker(story):
    story.call(1.0, NO_ANSWER, pid=None)
    story.kill(THIRD, 1.005)
    assert story.broken() == FAILS


REJECTS = {"nothing_is_rejected_by_a_closed_breaker"}


def test_a_rejection_by_a_closed_breaker(story):
    story.call(1.0, **REJECTED)
    assert story.broken() == REJECTS


def test_a_rejection_while_the_news_of_the_closing_travel(story):
    half_opened(story)
    story.turn("CLOSED", 3.2)
    story.call(3.4, pid=SECOND, **REJECTED)
    assert story.broken() == set()


def test_a_rejection_long_after_the_closing(story):
    half_opened(story)
    story.turn("CLOSED", 3.2)
    story.call(3.8, pid=SECOND, **REJECTED)
    assert story.broken() == REJECTS


def test_a_rejection_by_a_breaker_that_never_opens(story):
    story.redis("kill", 0.9, 1.2)
    story.call(1.0, breaker=STEADY, **REJECTED)
    assert story.broken() == REJECTS


WAITS = {"no_call_waits_for_redis"}
MANY_WAIT = {"most_calls_wait_for_nothing"}


def test_a_call_that_waits_for_a_redis_that_is_away(story):
    story.redis("pause", 2.0, 4.0)
    story.alone(2.1, 4.5)
    story.call(2.05, pid=SECOND, lasts=0.6)
    assert story.broken() == WAITS


@pytest.mark.parametrize("what", ["pause", "kill"])
@pytest.mark.parametrize("breaker", [X, STEADY])
def test_a_good_call_has_no_patience_with_redis(story, what, breaker):
    story.redis(what, 2.0, 4.0)
    story.alone(2.1, 4.5)
    story.calls(20, 2.05, pid=SECOND, breaker=breaker, lasts=0.3)
    assert story.broken() == WAITS | MANY_WAIT


@pytest.mark.parametrize(
    ("slow", "slower", "broken"), [(20, 0.11, MANY_WAIT), (20, 0.04, set()), (1, 0.11, set()), (2, 0.11, MANY_WAIT)]
)
def test_many_good_calls_wait_for_one_patience(story, slow, slower, broken):
    story.redis("pause", 3.0, 5.0)
    story.alone(3.1, 5.5)
    story.calls(slow, 3.2, pid=SECOND, lasts=0.01 + slower)
    story.calls(20 - slow, 4.0, pid=SECOND)
    assert story.broken() == broken


def test_many_calls_that_meet_the_loss_wait_and_those_after_it_do_not(story):
    for began in (3.0, 23.0):
        story.redis("pause", began, began + 4)
        story.alone(began + 0.35, began + 4.5)
        story.calls(12, began + 0.05, pid=SECOND, lasts=0.11)
        story.calls(160, began + 0.4, pid=SECOND)
    assert story.broken() == MANY_WAIT


def test_few_calls_that_wait_say_nothing(story):
    story.redis("pause", 3.0, 5.0)
    story.alone(3.1, 5.5)
    story.calls(19, 3.2, pid=SECOND, lasts=0.12)
    assert story.broken() == set()


def test_many_rejected_calls_wait_for_one_patience(story):
    opened(story, 1.0)
    story.redis("pause", 3.0, 5.0)
    story.alone(3.1, 5.5)
    story.calls(20, 3.2, pid=SECOND, lasts=0.12, **REJECTED)
    assert story.broken() == MANY_WAIT


def test_many_failures_wait_for_one_patience(story):
    story.redis("pause", 3.0, 5.0)
    story.alone(3.1, 5.5)
    for number in range(20):
        story.call(3.2 + number * 0.02, 500, fault="error", breaker=STEADY, pid=SECOND, lasts=0.12)
    assert story.broken() == set()


@pytest.mark.parametrize(("lasts", "broken"), [(0.3, set()), (0.4, WAITS)])
def test_a_failure_is_told_and_waits_no_longer_than_patience(story, lasts, broken):
    story.redis("pause", 2.0, 4.0)
    story.alone(2.1, 4.5)
    story.call(2.05, 500, fault="error", pid=SECOND, lasts=lasts)
    assert story.broken() == broken


def test_a_trial_asks_and_tells(story):
    half_opened(story)
    story.call(3.1, lasts=0.3)
    assert story.broken() == set()


@pytest.mark.parametrize("slower", [0.1, 0.5])
def test_a_gateway_that_is_slow_throughout(story, slower):
    story.calls(50, 2.0)
    story.recording.calls[:] = [
        dataclasses.replace(call, answered=call.answered + slower) for call in story.recording.calls
    ]
    assert story.broken() == WAITS


def test_a_machine_that_is_slow_throughout(story):
    story.calls(200, 2.0, lasts=0.25)
    for number in range(100):
        story.stall(1.5 + number * 0.05, 0.05)
    assert story.broken() == set()


def test_a_worker_that_got_no_processor_for_its_calls(story):
    story.call(2.0, lasts=0.5)
    story.recording.stalls.append(Stall(at=2.3, seconds=0.4, pid=FIRST))
    assert story.broken() == set()
    story.recording = dataclasses.replace(story.recording)
    story.call(2.0, pid=SECOND, lasts=0.5)
    assert story.broken() == WAITS


def test_a_call_that_hangs_until_its_worker_is_killed(story):
    story.call(2.0, NO_ANSWER, pid=None, lasts=40.0)
    story.kill(FIRST, 41.99)
    assert story.broken() == WAITS


def test_a_call_that_waits_for_mifos(story):
    story.call(2.0, 504, error="GATEWAY_TIMEOUT", fault="hang", lasts=1.1)
    assert story.broken() == set()


def test_a_call_that_waits_longer_than_its_limit(story):
    story.call(2.0, 504, error="GATEWAY_TIMEOUT", fault="hang", lasts=1.6)
    assert story.broken() == WAITS


def test_a_rejection_that_takes_its_time(story):
    opened(story)
    story.call(2.5, lasts=0.45, **REJECTED)
    assert story.broken() == WAITS


def test_a_call_on_a_machine_that_stalls(story):
    story.stall(2.1, 0.1)
    story.call(2.0, lasts=0.6)
    assert story.broken() == set()


def test_the_first_call_of_a_new_worker(story):
    story.recording.born.append(Born(pid=4, gateway=0, at=2.0))
    story.call(3.0, pid=4, lasts=0.8)
    assert story.broken() == set()

"""Each rule about what goes out goes red on a recording that breaks it, and stays calm where it must."""

import dataclasses

from tests.chaos.recording import NO_ANSWER
from tests.chaos.story import FIRST, SECOND, THIRD, half_opened, opened

OUT = {"nothing_goes_out_of_an_open_breaker"}
TRIALS = {"one_trial_a_generation"}


def test_a_call_that_goes_out_long_after_the_opening(story):
    opened(story)
    story.call(2.6, pid=SECOND)
    assert story.broken() == OUT


def test_a_call_that_goes_out_while_the_news_travel(story):
    opened(story)
    story.call(2.3, pid=SECOND)
    assert story.broken() == set()


def test_a_call_that_goes_out_late_because_no_thread_could_run(story):
    opened(story)
    story.stall(2.1, 0.2)
    story.call(2.6, pid=SECOND)
    assert story.broken() == set()


def test_a_call_that_was_sent_in_time_and_arrived_late(story):
    opened(story)
    story.call(2.1, pid=SECOND, lasts=0.9)
    story.recording.arrivals[-1] = dataclasses.replace(story.recording.arrivals[-1], at=2.8)
    assert story.broken() == {"no_call_waits_for_redis"}


def test_a_worker_that_lost_redis_before_the_news_came(story):
    opened(story)
    story.redis("pause", 2.05, 4.0)
    story.alone(2.2, 4.5)
    story.call(2.8, pid=SECOND)
    assert story.broken() == set()


def test_a_worker_that_forgot_the_opening_when_it_lost_redis(story):
    opened(story)
    story.redis("pause", 2.5, 4.0)
    story.alone(2.6, 4.5)
    story.call(2.8, pid=SECOND)
    assert story.broken() == OUT


def test_a_call_that_a_worker_lets_out_after_it_opened_alone(story):
    story.redis("pause", 1.0, 4.0)
    story.alone(1.2, 4.5)
    story.turn_alone("OPEN", 2.0)
    story.call(2.1)
    assert story.broken() == OUT


def test_another_worker_does_not_hear_of_an_opening_made_alone(story):
    story.redis("pause", 1.0, 4.0)
    story.alone(1.2, 4.5)
    story.turn_alone("OPEN", 2.0)
    story.call(2.1, pid=SECOND)
    assert story.broken() == set()


def test_a_second_trial(story):
    half_opened(story)
    story.call(3.1, lasts=0.25)
    story.call(3.2, pid=THIRD, lasts=0.25)
    assert story.broken() == TRIALS


def test_a_second_trial_once_the_lease_of_a_killed_worker_has_ended(story):
    half_opened(story)
    story.call(3.1, NO_ANSWER, pid=None)
    story.kill(FIRST, 3.11)
    story.call(5.0, pid=THIRD)
    assert story.broken() == set()


def test_a_second_trial_while_the_lease_of_a_killed_worker_lasts(story):
    half_opened(story)
    story.call(3.1, NO_ANSWER, pid=None)
    story.kill(FIRST, 3.11)
    story.call(4.0, pid=THIRD)
    assert story.broken() == TRIALS


def test_a_second_trial_after_redis_was_away(story):
    half_opened(story)
    story.call(3.1)
    story.redis("kill", 3.2, 3.5)
    story.alone(3.3, 4.4)
    story.call(7.0, pid=THIRD)
    assert story.broken() == set()


def test_a_second_trial_after_redis_was_emptied(story):
    generation = half_opened(story)
    story.call(3.1)
    story.redis("flush", 3.2, 3.21)
    story.turn("HALF_OPEN", 3.3, told=False, transition=False, id=generation)
    story.call(3.5, pid=THIRD)
    assert story.broken() == TRIALS


def test_each_worker_has_a_trial_of_its_own_while_it_is_alone(story):
    half_opened(story)
    story.redis("pause", 3.5, 6.0)
    story.alone(3.6, 6.5)
    story.call(4.0, pid=FIRST)
    story.call(4.0, pid=SECOND)
    assert story.broken() == set()


def test_a_worker_that_is_alone_makes_two_trials(story):
    half_opened(story)
    story.redis("pause", 3.5, 6.0)
    story.alone(3.6, 6.5)
    story.calls(2, 4.0)
    assert story.broken() == TRIALS


def test_a_worker_makes_two_trials_in_a_generation_of_its_own(story):
    story.redis("pause", 1.0, 4.0)
    story.alone(1.2, 4.5)
    story.turn_alone("HALF_OPEN", 2.0)
    story.calls(2, 2.1)
    assert story.broken() == TRIALS


def test_a_straggler_from_before_the_opening_is_no_trial(story):
    story.call(1.0, fault="slow")
    story.recording.arrivals[-1] = dataclasses.replace(story.recording.arrivals[-1], at=3.05)
    half_opened(story)
    story.call(3.1)
    assert story.broken() == set()


def test_a_request_that_is_sent_twice(story):
    story.call(1.0)
    story.recording.arrivals.append(dataclasses.replace(story.recording.arrivals[-1], at=1.5))
    assert story.broken() == {"nothing_is_sent_twice"}

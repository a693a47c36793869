"""Each rule about transitions goes red on a recording that breaks it, and stays calm where it must."""

import pytest

from tests.chaos.story import FIRST, SECOND, THIRD, X, opened

OPENS = {"opens_when_it_must"}


def test_a_breaker_that_stays_closed_while_all_fails(story):
    story.calls(20, 1.0, 500, fault="error")
    assert story.broken() == OPENS


def test_a_breaker_that_opens_too_late(story):
    story.calls(5, 1.0, 500, fault="error")
    story.turn("OPEN", 2.0)
    assert story.broken() == OPENS


def test_a_breaker_that_opens_in_time(story):
    story.calls(5, 1.0, 500, fault="error")
    story.turn("OPEN", 1.1)
    assert story.broken() == set()


def test_a_breaker_that_need_not_open(story):
    story.calls(20, 0.8, 200)
    story.calls(20, 1.2, 500, fault="error")
    assert story.broken() == set()


def test_a_breaker_whose_failures_were_before_it_closed(story):
    story.calls(20, 1.0, 500, fault="error")
    story.turn("CLOSED", 1.05)
    story.turn("CLOSED", 1.39)
    assert story.broken() == set()


def test_a_breaker_whose_counts_were_lost(story):
    story.calls(20, 1.0, 500, fault="error")
    story.redis("flush", 1.2, 1.21)
    assert story.broken() == set()


def test_a_breaker_whose_failures_left_the_window(story):
    story.recording.policies[X] = {"rolling_count_timeout": 1, "rolling_count_buckets": 5, "reset_timeout": 1}
    for at in (1, 3, 5, 7, 9, 11):
        story.call(at, 500, fault="error")
    assert story.broken() == set()


def test_a_worker_that_stays_closed_alone(story):
    story.redis("kill", 0.9, 5.0)
    story.alone(1.0, 6.0)
    story.calls(20, 1.5, 500, fault="error", pid=SECOND)
    assert story.broken() == OPENS


def test_a_worker_that_is_alone_counts_its_own_failures_only(story):
    story.redis("kill", 0.9, 5.0)
    story.alone(1.0, 6.0)
    for pid in (FIRST, SECOND, THIRD):
        story.calls(4, 1.5, 500, fault="error", pid=pid)
    assert story.broken() == set()


def test_a_worker_that_is_alone_remembers_its_successes(story):
    story.calls(30, 0.2, pid=SECOND)
    story.redis("kill", 0.9, 5.0)
    story.alone(1.0, 6.0)
    story.calls(20, 1.5, 500, fault="error", pid=SECOND)
    assert story.broken() == set()


@pytest.mark.parametrize("half_open_at", [2.9, 4.0])
def test_a_door_that_opens_early_or_late(story, half_open_at):
    opened(story)
    story.turn("HALF_OPEN", half_open_at)
    assert story.broken() == {"turns_in_time"}


def test_a_door_whose_opening_was_written_a_while_after_it_was_found(story):
    story.turn("OPEN", 2.006, since=2.0)
    story.turn("HALF_OPEN", 3.0)
    assert story.broken() == set()


@pytest.mark.parametrize("since", [1.5, 2.1])
def test_an_opening_that_was_found_at_another_time(story, since):
    story.turn("OPEN", 2.0, since=since)
    story.turn("HALF_OPEN", since + 1)
    assert story.broken() == {"turns_in_time"}


def test_a_door_that_opens_late_because_redis_was_away(story):
    opened(story)
    story.redis("kill", 2.5, 3.5)
    story.turn("HALF_OPEN", 4.0)
    assert story.broken() == set()


TOLD = {"each_transition_is_told_once"}


def test_a_transition_that_two_workers_tell(story):
    generation = story.turn("OPEN", 2.0)
    story.turn("OPEN", 2.0, pid=SECOND, id=generation, event=False)
    assert story.broken() == TOLD


def test_a_transition_that_is_in_the_events_twice(story):
    generation = story.turn("OPEN", 2.0)
    story.turn("OPEN", 2.1, id=generation, told=False)
    assert story.broken() == TOLD


def test_a_transition_that_nobody_tells(story):
    story.turn("OPEN", 2.0, told=False)
    assert story.broken() == TOLD


def test_a_transition_whose_maker_was_killed(story):
    story.turn("OPEN", 2.0, told=False)
    story.kill(FIRST, 2.1)
    assert story.broken() == set()


def test_a_transition_that_redis_has_not(story):
    story.turn("OPEN", 2.0, event=False)
    assert story.broken() == TOLD


def test_a_transition_that_redis_had_before_it_was_killed(story):
    story.turn("OPEN", 2.0, event=False)
    story.redis("kill", 2.01, 3.0)
    assert story.broken() == set()


def test_a_transition_over_which_redis_was_lost(story):
    story.redis("pause", 1.9, 3.0)
    story.alone(2.0, 3.5, FIRST)
    story.turn("OPEN", 2.0, event=False)
    assert story.broken() == set()


def test_a_log_that_says_something_else(story):
    generation = story.turn("OPEN", 2.0, event=False)
    story.turn("CLOSED", 2.0, id=generation, told=False)
    assert story.broken() == TOLD

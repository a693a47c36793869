"""The rule about counts goes red on a recording that breaks it, and stays calm where it must."""

import pytest

from tests.chaos.checker import check
from tests.chaos.recording import NO_ANSWER
from tests.chaos.story import ENOUGH, FIRST, STEADY, Story

COUNTS = {"counts_are_right"}


def steady(story: Story, times: int, at: float, *args: int, **options: object) -> None:
    story.calls(times, at, *args, breaker=STEADY, **options)


def test_counts_that_are_right(story):
    steady(story, 10, 1.0)
    steady(story, 3, 2.0, 500, fault="error")
    story.count(4.0, successes=10, failures=3)
    steady(story, 2, 5.0, 504, fault="hang")
    story.count(8.0, successes=10, failures=3, timeouts=2)
    assert story.broken() == set()


@pytest.mark.parametrize("successes", [9, 11])
def test_a_count_too_few_or_too_many(story, successes):
    steady(story, 10, 1.0)
    story.count(4.0, successes=successes)
    assert story.broken() == COUNTS


def test_a_failure_that_was_counted_as_a_success(story):
    steady(story, 3, 2.0, 500, fault="error")
    story.count(4.0, successes=1, failures=2)
    assert story.broken() == COUNTS


def test_a_count_that_was_made_up_for_later(story):
    steady(story, 10, 1.0)
    story.count(4.0, successes=9)
    story.count(8.0, successes=10)
    assert [found.at for found in check(story.recording) if found.rule not in ENOUGH] == [4.0, 8.0]


def test_the_last_beat_of_a_killed_worker(story):
    steady(story, 10, 1.0)
    story.kill(FIRST, 1.3)
    story.count(4.0, successes=4)
    assert story.broken() == set()


def test_more_than_the_last_beat_of_a_killed_worker(story):
    steady(story, 10, 1.0)
    story.kill(FIRST, 2.0)
    story.count(4.0, successes=8)
    assert story.broken() == COUNTS


@pytest.mark.parametrize(("killed_at", "broken"), [(1.2, set()), (1.58, COUNTS)])
def test_ten_calls_shortly_before_their_worker_was_killed(story, killed_at, broken):
    steady(story, 10, 1.0)
    story.kill(FIRST, killed_at)
    story.count(4.0)
    assert story.broken() == broken


def test_a_beat_that_stalled(story):
    steady(story, 10, 1.0)
    story.stall(1.3, 0.1)
    story.kill(FIRST, 1.4)
    story.count(4.0)
    assert story.broken() == set()


def test_what_a_worker_that_was_alone_had_not_sent_dies_with_it(story):
    story.redis("pause", 0.9, 2.2)
    story.alone(1.0, float("inf"), FIRST)
    steady(story, 10, 1.0)
    story.kill(FIRST, 2.0)
    story.count(4.0)
    assert story.broken() == set()


@pytest.mark.parametrize("successes", [10, 11])
def test_a_call_that_broke_may_have_been_counted(story, successes):
    steady(story, 10, 1.0)
    story.call(2.0, NO_ANSWER, breaker=STEADY, pid=None)
    story.kill(FIRST, 2.005)
    story.count(4.0, successes=successes)
    assert story.broken() == set()


@pytest.mark.parametrize(("successes", "broken"), [(4, COUNTS), (5, set()), (15, COUNTS)])
def test_counts_of_a_redis_that_was_emptied(story, successes, broken):
    steady(story, 10, 1.0)
    story.redis("flush", 3.0, 3.01)
    steady(story, 5, 3.1)
    story.count(5.0, successes=successes)
    assert story.broken() == broken


@pytest.mark.parametrize(("successes", "broken"), [(4, COUNTS), (5, set()), (6, COUNTS)])
def test_what_was_counted_alone_while_redis_was_killed_comes_later(story, successes, broken):
    story.redis("kill", 3.0, 4.0)
    story.alone(3.1, 4.8)
    steady(story, 5, 3.2)
    story.count(6.0, successes=successes)
    assert story.broken() == broken

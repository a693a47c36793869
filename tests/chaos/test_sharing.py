"""Each rule about following Redis goes red on a recording that breaks it, and stays calm where it must."""

from tests.chaos.story import SECOND


def test_a_worker_that_never_finds_redis_again(story):
    story.redis("pause", 1.0, 2.0)
    story.alone(1.1, float("inf"), SECOND)
    story.call(9.0)
    assert story.broken() == {"redis_is_followed_again"}


def test_a_worker_that_died_before_it_could(story):
    story.redis("pause", 1.0, 2.0)
    story.alone(1.1, float("inf"), SECOND)
    story.kill(SECOND, 2.5)
    story.call(9.0)
    assert story.broken() == set()


def test_a_worker_that_loses_a_healthy_redis(story):
    story.alone(3.0, 4.0, SECOND)
    assert story.broken() == {"a_healthy_redis_is_not_lost"}


def test_a_worker_that_got_no_processor(story):
    story.alone(3.0, 4.0, SECOND)
    story.stall(2.9, 0.2)
    assert story.broken() == set()

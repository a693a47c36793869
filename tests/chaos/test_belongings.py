"""Each rule about belongings goes red on a recording that breaks it, and stays calm where it must."""

import pytest

GROWS = {"nothing_grows"}


@pytest.mark.parametrize(
    ("more", "broken"),
    [
        ({"sockets": 14}, set()),
        ({"sockets": 15}, GROWS),
        ({"rss": 99 << 20}, GROWS),
        ({"threads": 10}, set()),
        ({"threads": 64}, GROWS),
    ],
)
def test_belongings_of_a_worker_that_grow(story, more, broken):
    story.sample(20.0)
    story.sample(40.0, **more)
    assert story.broken() == broken


def test_a_worker_that_has_just_been_born_may_grow(story):
    story.sample(2.0, sockets=8)
    story.sample(40.0)
    assert story.broken() == set()


def test_more_than_a_worker_may_have(story):
    story.sample(20.0, idle=100)
    assert story.broken() == GROWS


def test_an_error_in_the_log(story):
    story.recording.complaints.append("breaker beat failed")
    assert story.broken() == {"nobody_complains"}


def test_a_process_that_is_left(story):
    story.recording.left.append("4711")
    assert story.broken() == {"nothing_is_left_behind"}

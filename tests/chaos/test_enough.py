"""A recording that has not seen enough is no proof."""

import dataclasses
import json

import pytest

from tests.chaos.checker import check
from tests.chaos.recording import Recording
from tests.chaos.story import ENOUGH, SECOND, STEADY, THIRD, Story


@pytest.fixture
def full(story) -> Story:
    """A story of a minute in which everything happens."""
    story.calls(6, 1.0, 500, fault="error")
    story.turn("OPEN", 1.13)
    story.turn("HALF_OPEN", 2.131)
    story.call(2.2, pid=THIRD)
    story.turn("CLOSED", 2.209, pid=THIRD)
    story.kill(SECOND, 5.0)
    story.redis("pause", 6.0, 6.4)
    story.calls(20, 6.0, breaker=STEADY, pid=THIRD)
    story.calls(10, 30.0, breaker=STEADY, pid=THIRD)
    story.count(40.0, successes=30)
    story.sample(20.0, pid=THIRD)
    story.sample(40.0, pid=THIRD)
    story.call(60.0)
    for breaker in ("usual", STEADY):
        event = dataclasses.replace(story.recording.events[0], breaker=breaker, id=breaker)
        story.recording.events.append(event)
    story.recording.plan = [
        '   1.00  spoil_mifos {"mode": "error"}',
        '   2.00  spoil_mifos {"mode": "drip", "users": ["checker"]}',
        "   5.00  kill_worker 0 1",
        "   6.00  pause_redis",
        "   6.40  resume_redis",
    ]
    return story


def test_a_story_that_has_it_all(full):
    assert check(full.recording) == []


def test_nothing_is_not_enough():
    assert {violation.rule for violation in check(Recording())} == ENOUGH


@pytest.mark.parametrize(
    ("blind", "said"),
    [
        ({"served": []}, "nobody knows who served"),
        ({"born": []}, "nobody knows who served"),
        ({"events": [], "told": []}, "no breaker opened"),
        ({"events": [], "told": []}, "beyond doubt"),
        ({"events": [], "told": []}, "no trial"),
        ({"counts": []}, "no counts"),
        ({"samples": []}, "looked at twice"),
        ({"deeds": []}, "only 0 good or rejected calls met a loss"),
        ({"deeds": []}, "pause_redis was planned"),
        ({"deeds": []}, "kill_worker was planned"),
        ({"arrivals": []}, "error was planned"),
        ({"plan": []}, "nothing was planned"),
    ],
)
def test_a_recorder_that_wrote_nothing_down(full, blind, said):
    found = [one for one in check(dataclasses.replace(full.recording, **blind)) if one.rule in ENOUGH]
    assert any(said in one.said for one in found)


@pytest.mark.parametrize("users", [["maker"], ["checker", "maker"]])
def test_a_fault_that_the_open_breakers_may_keep_from_nobody(full, users):
    """The breaker that never opens is the maker's."""
    full.recording.plan.append("   9.00  spoil_mifos " + json.dumps({"mode": "drip", "users": users}))
    assert [one.said for one in check(full.recording)] == ["drip was planned and not done"]


def test_a_worker_that_was_looked_at_once(full):
    full.recording.samples.pop()
    assert [one.said for one in check(full.recording)] == ["no worker that lived to the end was looked at twice"]


def test_a_line_that_its_worker_took_with_it(full):
    full.call(4.9, pid=None)
    assert check(full.recording) == []


def test_a_line_that_nobody_wrote(full):
    full.call(4.0, pid=None)
    assert [one.said for one in check(full.recording)] == ["nobody knows who served 1 calls"]

"""Whole stories break no rule, and a recording can be kept."""

import dataclasses
from pathlib import Path

from tests.chaos.recording import Recording
from tests.chaos.story import FIRST, REJECTED, SECOND, THIRD


def test_a_calm_story_breaks_no_rule(story):
    story.calls(50, 1.0)
    assert story.broken() == set()


def test_a_whole_outage_breaks_no_rule(story):
    story.calls(6, 1.0, 500, fault="error")
    story.turn("OPEN", 1.13)
    story.calls(40, 1.2, pid=SECOND, **REJECTED)
    story.turn("HALF_OPEN", 2.131)
    story.call(2.2, 500, fault="error")
    story.turn("OPEN", 2.215, pid=SECOND)
    story.turn("HALF_OPEN", 3.216)
    story.call(3.3, pid=THIRD)
    story.turn("CLOSED", 3.309, pid=THIRD)
    story.calls(20, 3.8)
    assert story.broken() == set()


def test_a_recording_can_be_kept(story, tmp_path: Path):
    story.kill(FIRST, 2.0)
    story.alone(1.0, 2.0)
    story.sample(3.0)
    story.recording.save(tmp_path / "kept")
    assert dataclasses.asdict(Recording.load(tmp_path / "kept")) == dataclasses.asdict(story.recording)

"""The schedule follows from the seed, and a short one has it all."""

from tests.chaos.schedule import FAULTS, ROUND, WARM_UP, schedule
from tests.chaos.stage import Stage


def test_a_seed_makes_the_same_schedule_again():
    assert schedule(7, 120) == schedule(7, 120)
    assert schedule(7, 120) != schedule(8, 120)


def test_a_longer_run_begins_as_the_shorter_one():
    short = schedule(7, 60)
    assert schedule(7, 600)[: len(short)] == short


def test_a_minute_has_every_kind_of_trouble():
    for seed in range(20):
        steps = schedule(seed, 60)
        assert {"kill_redis", "pause_redis", "flush_redis", "kill_worker"} <= {step.verb for step in steps}
        spoilt = {(step.arguments[0]["mode"], step.arguments[0].get("where")) for step in steps if "spoil" in step.verb}
        assert spoilt == {(fault["mode"], fault.get("where")) for fault in FAULTS.values()}


def test_the_time_is_kept():
    for seconds in (1, 60, 600):
        assert schedule(3, seconds)[-1].at <= max(seconds, WARM_UP + ROUND)


def test_steps_come_in_order_and_all_can_be_made():
    steps = schedule(5, 600)
    assert steps == sorted(steps, key=lambda step: step.at)
    assert all(callable(getattr(Stage, step.verb)) for step in steps)


def test_redis_is_never_left_killed_or_paused():
    for seed in range(20):
        verbs = [
            step.verb for step in schedule(seed, 600) if step.verb.endswith("_redis") and step.verb != "flush_redis"
        ]
        assert set(zip(verbs[::2], verbs[1::2], strict=True)) <= {
            ("kill_redis", "start_redis"),
            ("pause_redis", "resume_redis"),
        }

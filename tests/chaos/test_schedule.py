"""The schedule follows from the seed, and a short one has it all."""

from itertools import pairwise

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


def test_a_minute_has_every_fault_for_all_users():
    """Then the breaker that never opens lets calls out to each."""
    kinds = sorted({(fault["mode"], fault.get("where"), fault.get("rate")) for fault in FAULTS.values()}, key=repr)
    for seed in range(20):
        spoilt = [step.arguments[0] for step in schedule(seed, 54) if step.verb == "spoil_mifos"]
        met = {(one["mode"], one.get("where"), one.get("rate")) for one in spoilt if "users" not in one}
        assert sorted(met, key=repr) == kinds


def test_a_long_run_has_faults_for_one_user():
    spoilt = [step.arguments[0] for step in schedule(4, 240) if step.verb == "spoil_mifos"]
    assert {(*one.get("users", ()),) for one in spoilt} == {(), ("maker",), ("checker",)}


def test_a_minute_has_a_flap():
    """Three times and more it fails and is mended again, each within a second."""
    for seed in range(20):
        verbs = [step for step in schedule(seed, 54) if step.verb in ("spoil_mifos", "mend_mifos")]
        quick = [after.at - before.at < 1 for before, after in pairwise(verbs) if before.verb == "spoil_mifos"]
        assert sum(quick) >= 3


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

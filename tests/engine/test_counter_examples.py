"""Schedules in which the engine once strayed from the reference, shrunk; each is lived through by both again."""

from __future__ import annotations

from typing import Any

from breaker.engine.machine import Action
from breaker.engine.policy import Policy
from tests.engine.model.schedules import Schedule

POLICY = Policy(
    timeout=1,
    reset_timeout=1,
    rolling_count_timeout=8,
    rolling_count_buckets=4,
    volume_threshold=2,
)


def begun(workers: int = 1, **options: Any) -> Schedule:
    schedule = Schedule()
    schedule.begin([(POLICY, 0)] * workers, alike=True, **options)
    return schedule


def live(schedule: Schedule, *steps: tuple[str, dict[str, Any]]) -> None:
    for step, arguments in steps:
        getattr(schedule, step)(**arguments)
        schedule.agrees()


def test_an_open_circuit_is_not_stuck_when_the_store_was_emptied_under_it() -> None:
    """Its own half-open, written under a number that it had heard before, was taken for old; and so each one after."""
    schedule = begun()
    live(
        schedule,
        ("call", {"which": 0, "kinds": ["f", "f"]}),
        ("store_emptied", {}),
        ("all_is_well_for_a_while", {}),
    )
    assert schedule.workers[0].breaker.current_state == "half-open"


def test_an_open_found_alone_does_not_move_what_stands_still_under_an_operators_word() -> None:
    schedule = begun()
    live(
        schedule,
        ("a_command_will_fail", {"which": 0, "command": "push", "how": "cut", "lasts": False}),
        ("call", {"which": 0, "kinds": ["f"]}),
        ("operator", {"which": 0, "action": Action.CLOSE, "for_ms": None}),
        ("call", {"which": 0, "kinds": ["f"]}),
        ("all_is_well_for_a_while", {}),
    )
    assert schedule.workers[0].breaker.snapshot.state.value == "CLOSED"


def test_a_half_open_circuit_under_an_operators_word_is_put_back_into_an_emptied_store_as_it_was() -> None:
    schedule = begun()
    live(
        schedule,
        ("fails", {"which": 0}),
        ("wait_for_the_trial", {}),
        ("operator", {"which": 0, "action": Action.OPEN, "for_ms": 2_000}),
        ("store_emptied", {}),
        ("time_passes", {"ticks": 5}),
    )
    assert schedule.workers[0].breaker.snapshot.state.value == "HALF_OPEN"


def test_a_process_about_to_open_looks_at_what_the_others_have_not_sent() -> None:
    schedule = begun(2)
    live(
        schedule,
        ("call", {"which": 1, "kinds": ["s"] * 4}),
        ("call", {"which": 0, "kinds": ["f", "f"]}),
    )
    assert schedule.workers[0].breaker.current_state == "closed"


def test_a_transition_whose_answer_was_lost_is_the_same_here_and_in_the_store() -> None:
    """Id and all: one by another name, found when the store is back, would be a second opening."""
    schedule = begun()
    live(
        schedule,
        ("a_command_will_fail", {"which": 0, "command": "write", "how": "mute", "lasts": False}),
        ("call", {"which": 0, "kinds": ["f", "f"]}),
        ("all_is_well_for_a_while", {}),
    )


def test_a_trial_that_was_overtaken_opens_nothing_when_the_store_is_lost_over_it() -> None:
    """Its worker, alone from then on, judged the closed circuit by its own failures, which the others' successes had
    outweighed, though none was new."""
    schedule = begun(2)
    live(
        schedule,
        ("fails", {"which": 0}),
        ("wait_for_the_trial", {}),
        ("admit", {"which": 0}),
        ("one_fails_alone", {"which": 0, "successes": 10}),
        ("a_command_will_fail", {"which": 0, "command": "push", "how": "cut", "lasts": False}),
        ("settle", {"which": 0, "last": False, "kind": "s"}),
    )
    assert not schedule.workers[0].sync.sharing
    assert schedule.workers[0].breaker.current_state == "closed"

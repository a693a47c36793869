"""The checker goes red: each rule on a hand-made recording that breaks it, and stays calm where it must."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.recording import (
    KINDS,
    NO_ANSWER,
    Alone,
    Arrival,
    Born,
    Call,
    Count,
    Deed,
    Event,
    Recording,
    Sample,
    Served,
    Stall,
    Told,
)

X, STEADY = "x", "steady"
REJECTED = {"status": 503, "error": "SERVICE_UNAVAILABLE", "reaches": False}
ENOUGH = {"it_has_seen_enough"}
FIRST, SECOND, THIRD = 1, 2, 3
"""Workers; the first two serve the first gateway."""


class Story:
    """A recording in the making: three workers that have served since 0.1 s, a breaker that is CLOSED."""

    def __init__(self) -> None:
        self.recording = Recording(
            policies={
                X: {"reset_timeout": 1, "timeout": 1},
                STEADY: {"error_threshold_percentage": 100, "timeout": 1, "rolling_count_timeout": 3600},
            },
            whole=[STEADY],
        )
        self._ids = (f"{number:03}" for number in itertools.count())
        for pid in (FIRST, SECOND, THIRD):
            self.recording.born.append(Born(pid=pid, gateway=self.gateway(pid), at=-2.0))
            self.call(0.1, pid=pid)
        self.calls(99, 0.2, breaker="usual", pid=THIRD)
        self.turn("CLOSED", 0.0, pid=0, told=False, transition=False)

    @staticmethod
    def gateway(pid: int) -> int:
        return 0 if pid in (FIRST, SECOND) else 1

    def call(
        self,
        at: float,
        status: int = 200,
        *,
        pid: int | None = FIRST,
        breaker: str = X,
        lasts: float = 0.01,
        error: str = "",
        fault: str = "",
        reaches: bool = True,
    ) -> str:
        """A call that was sent at `at`; without a pid the log has no line of it."""
        id = next(self._ids)
        self.recording.calls.append(
            Call(
                id=id,
                breaker=breaker,
                gateway=self.gateway(pid or FIRST),
                sent=at,
                answered=at + lasts,
                status=status,
                error=error,
            )
        )
        if reaches:
            self.recording.arrivals.append(Arrival(id=id, at=at + 0.004, fault=fault))
        if pid is not None:
            self.recording.served.append(Served(id=id, pid=pid, at=at + lasts))
        return id

    def calls(self, times: int, at: float, *args: int, **options: object) -> None:
        for number in range(times):
            self.call(at + number * 0.02, *args, **options)  # type: ignore[arg-type]

    def turn(
        self,
        state: str,
        at: float,
        *,
        pid: int = FIRST,
        told: bool = True,
        event: bool = True,
        alone: bool = False,
        transition: bool = True,
        id: str = "",
        since: float | None = None,
    ) -> str:
        since = at if since is None else since
        id = id or f"g{next(self._ids)}"
        if told:
            self.recording.told.append(Told(id=id, breaker=X, state=state, pid=pid, at=at + 0.001, alone=alone))
        if event:
            entry = f"{round(at * 1000)}-{len(self.recording.events)}"
            self.recording.events.append(
                Event(
                    entry=entry, id=id, breaker=X, state=state, at=at, since=since, transition=transition, alone=alone
                )
            )
        return id

    def turn_alone(self, state: str, at: float, pid: int = FIRST) -> str:
        return self.turn(state, at, pid=pid, event=False, alone=True)

    def redis(self, what: str, began: float, ended: float) -> None:
        self.recording.deeds.append(Deed(what=what, began=began, ended=ended))

    def kill(self, pid: int, at: float) -> None:
        self.recording.deeds.append(Deed(what="kill", began=at, ended=at, pid=pid, gateway=self.gateway(pid)))

    def alone(self, since: float, until: float, *pids: int) -> None:
        for pid in pids or (FIRST, SECOND, THIRD):
            self.recording.alone.append(Alone(pid=pid, since=since, until=until))

    def stall(self, at: float, seconds: float) -> None:
        self.recording.stalls.append(Stall(at=at, seconds=seconds))

    def count(self, at: float, **kinds: int) -> None:
        self.recording.counts.append(Count(at=at, breaker=STEADY, **(dict.fromkeys(KINDS, 0) | kinds)))

    def sample(self, at: float, **more: int) -> None:
        usual = {"pid": FIRST, "threads": 8, "sockets": 12, "idle": 5, "rss": 80 << 20}
        self.recording.samples.append(Sample(at=at, **(usual | more)))

    def broken(self) -> set[str]:
        """The rules that find something wrong with what there is, be it little."""
        return {violation.rule for violation in check(self.recording)} - ENOUGH


@pytest.fixture
def story() -> Story:
    return Story()


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


# -- what goes out -----------------------------------------------------------------------------------------------------

OUT = {"nothing_goes_out_of_an_open_breaker"}
TRIALS = {"one_trial_a_generation"}


def opened(story: Story, at: float = 2.0) -> None:
    story.turn("OPEN", at)


def half_opened(story: Story) -> str:
    """From 3.0 on."""
    opened(story)
    return story.turn("HALF_OPEN", 3.0)


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
    assert story.broken() == WAITS


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


# -- what comes back ---------------------------------------------------------------------------------------------------

FAILS = {"no_call_fails_but_by_mifos"}


@pytest.mark.parametrize(
    ("status", "error"), [(500, ""), (500, "INTERNAL_ERROR"), (502, "BAD_GATEWAY"), (504, "GATEWAY_TIMEOUT"), (404, "")]
)
def test_a_failure_that_mifos_has_not_made(story, status, error):
    story.call(1.0, status, error=error)
    assert story.broken() == FAILS


def test_a_failure_that_mifos_has_made(story):
    story.call(1.0, 502, error="BAD_GATEWAY", fault="reset")
    assert story.broken() == set()


def test_a_failure_of_a_call_that_never_reached_mifos(story):
    story.call(1.0, 502, error="BAD_GATEWAY", reaches=False)
    assert story.broken() == FAILS


def test_a_token_that_is_not_known_for_once(story):
    story.call(1.0, 503, error="TOKENS_UNAVAILABLE", reaches=False)
    assert story.broken() == FAILS


def test_a_connection_that_breaks_for_nothing(story):
    story.call(1.0, NO_ANSWER, pid=None)
    assert story.broken() == FAILS


def test_a_connection_that_breaks_with_its_worker(story):
    story.call(1.0, NO_ANSWER, pid=None)
    story.kill(FIRST, 1.005)
    assert story.broken() == set()


def test_a_connection_that_breaks_with_another_gateways_worker(story):
    story.call(1.0, NO_ANSWER, pid=None)
    story.kill(THIRD, 1.005)
    assert story.broken() == FAILS


REJECTS = {"nothing_is_rejected_by_a_closed_breaker"}


def test_a_rejection_by_a_closed_breaker(story):
    story.call(1.0, **REJECTED)
    assert story.broken() == REJECTS


def test_a_rejection_while_the_news_of_the_closing_travel(story):
    half_opened(story)
    story.turn("CLOSED", 3.2)
    story.call(3.4, pid=SECOND, **REJECTED)
    assert story.broken() == set()


def test_a_rejection_long_after_the_closing(story):
    half_opened(story)
    story.turn("CLOSED", 3.2)
    story.call(3.8, pid=SECOND, **REJECTED)
    assert story.broken() == REJECTS


def test_a_rejection_by_a_breaker_that_never_opens(story):
    story.redis("kill", 0.9, 1.2)
    story.call(1.0, breaker=STEADY, **REJECTED)
    assert story.broken() == REJECTS


WAITS = {"no_call_waits_for_redis"}


def test_a_call_that_waits_for_a_redis_that_is_away(story):
    story.redis("pause", 2.0, 4.0)
    story.alone(2.1, 4.5)
    story.call(2.05, pid=SECOND, lasts=0.6)
    assert story.broken() == WAITS


@pytest.mark.parametrize("what", ["pause", "kill"])
@pytest.mark.parametrize("breaker", [X, STEADY])
def test_a_good_call_has_no_patience_with_redis(story, what, breaker):
    story.redis(what, 2.0, 4.0)
    story.alone(2.1, 4.5)
    story.calls(20, 2.05, pid=SECOND, breaker=breaker, lasts=0.3)
    assert story.broken() == WAITS


@pytest.mark.parametrize(("lasts", "broken"), [(0.2, set()), (0.3, WAITS)])
def test_a_failure_is_told_and_waits_no_longer_than_patience(story, lasts, broken):
    story.redis("pause", 2.0, 4.0)
    story.alone(2.1, 4.5)
    story.call(2.05, 500, fault="error", pid=SECOND, lasts=lasts)
    assert story.broken() == broken


def test_a_trial_asks_and_tells(story):
    half_opened(story)
    story.call(3.1, lasts=0.3)
    assert story.broken() == set()


@pytest.mark.parametrize("slower", [0.1, 0.5])
def test_a_gateway_that_is_slow_throughout(story, slower):
    story.calls(50, 2.0)
    story.recording.calls[:] = [
        dataclasses.replace(call, answered=call.answered + slower) for call in story.recording.calls
    ]
    assert story.broken() == WAITS


def test_a_machine_that_is_slow_throughout(story):
    story.calls(200, 2.0, lasts=0.25)
    for number in range(100):
        story.stall(1.5 + number * 0.05, 0.05)
    assert story.broken() == set()


def test_a_worker_that_got_no_processor_for_its_calls(story):
    story.call(2.0, lasts=0.5)
    story.recording.stalls.append(Stall(at=2.3, seconds=0.4, pid=FIRST))
    assert story.broken() == set()
    story.recording = dataclasses.replace(story.recording)
    story.call(2.0, pid=SECOND, lasts=0.5)
    assert story.broken() == WAITS


def test_a_call_that_hangs_until_its_worker_is_killed(story):
    story.call(2.0, NO_ANSWER, pid=None, lasts=40.0)
    story.kill(FIRST, 41.99)
    assert story.broken() == WAITS


def test_a_call_that_waits_for_mifos(story):
    story.call(2.0, 504, error="GATEWAY_TIMEOUT", fault="hang", lasts=1.1)
    assert story.broken() == set()


def test_a_call_that_waits_longer_than_its_limit(story):
    story.call(2.0, 504, error="GATEWAY_TIMEOUT", fault="hang", lasts=1.6)
    assert story.broken() == WAITS


def test_a_rejection_that_takes_its_time(story):
    opened(story)
    story.call(2.5, lasts=0.45, **REJECTED)
    assert story.broken() == WAITS


def test_a_call_on_a_machine_that_stalls(story):
    story.stall(2.1, 0.1)
    story.call(2.0, lasts=0.6)
    assert story.broken() == set()


def test_the_first_call_of_a_new_worker(story):
    story.recording.born.append(Born(pid=4, gateway=0, at=2.0))
    story.call(3.0, pid=4, lasts=0.8)
    assert story.broken() == set()


# -- transitions -------------------------------------------------------------------------------------------------------

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


# -- with and without Redis --------------------------------------------------------------------------------------------


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


# -- counts ------------------------------------------------------------------------------------------------------------

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


# -- belongings --------------------------------------------------------------------------------------------------------

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


# -- what was seen at all ----------------------------------------------------------------------------------------------


@pytest.fixture
def full(story) -> Story:
    """A story of a minute in which everything happens."""
    story.calls(6, 1.0, 500, fault="error")
    story.turn("OPEN", 1.13)
    story.turn("HALF_OPEN", 2.131)
    story.call(2.2, pid=THIRD)
    story.turn("CLOSED", 2.209, pid=THIRD)
    story.kill(SECOND, 5.0)
    story.redis("pause", 6.0, 6.1)
    story.calls(10, 30.0, breaker=STEADY, pid=THIRD)
    story.count(40.0, successes=10)
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
        "   6.10  resume_redis",
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
        ({"deeds": []}, "pause_redis was planned"),
        ({"deeds": []}, "kill_worker was planned"),
        ({"arrivals": []}, "error was planned"),
        ({"plan": []}, "nothing was planned"),
    ],
)
def test_a_recorder_that_wrote_nothing_down(full, blind, said):
    found = [one for one in check(dataclasses.replace(full.recording, **blind)) if one.rule in ENOUGH]
    assert any(said in one.said for one in found)


def test_a_worker_that_was_looked_at_once(full):
    full.recording.samples.pop()
    assert [one.said for one in check(full.recording)] == ["no worker that lived to the end was looked at twice"]


def test_a_line_that_its_worker_took_with_it(full):
    full.call(4.9, pid=None)
    assert check(full.recording) == []


def test_a_line_that_nobody_wrote(full):
    full.call(4.0, pid=None)
    assert [one.said for one in check(full.recording)] == ["nobody knows who served 1 calls"]

"""The transition table, and an operator's word over it."""

import dataclasses

import pytest

from breaker.engine import machine
from breaker.engine.machine import Act, Action, Force, Snapshot, State, act_on, apply, decide, standing
from breaker.engine.policy import Policy
from breaker.engine.window import Outcome, Totals

NOW = 1_000_000
CLOSED = Snapshot(id="g1", rev="r1", since=NOW - 10_000)
OPEN = dataclasses.replace(CLOSED, state=State.OPEN, since=NOW - 30_000, until=NOW + 30_000)
HALF_OPEN = dataclasses.replace(CLOSED, state=State.HALF_OPEN)


def test_closed_opens_when_the_rate_is_above_the_threshold() -> None:
    due = decide(Policy(), CLOSED, Totals(successes=2, failures=3), NOW)
    assert due is not None
    assert due.after is State.OPEN


def test_closed_stays_at_exactly_the_threshold() -> None:
    assert decide(Policy(), CLOSED, Totals(successes=5, failures=5), NOW) is None


def test_closed_stays_below_the_volume() -> None:
    assert decide(Policy(), CLOSED, Totals(failures=4), NOW) is None


def test_timeouts_count_like_failures() -> None:
    assert decide(Policy(), CLOSED, Totals(failures=2, timeouts=3), NOW) is not None


def test_rejects_do_not_count_towards_the_volume() -> None:
    assert decide(Policy(), CLOSED, Totals(failures=4, rejects=100), NOW) is None


@pytest.mark.parametrize(("threshold", "opens"), [(30, True), (70, False)])
def test_the_threshold_is_the_policys(threshold: float, opens: bool) -> None:
    due = decide(Policy(error_threshold_percentage=threshold), CLOSED, Totals(successes=5, failures=5), NOW)
    assert (due is not None) is opens


def test_open_waits_for_the_reset_timeout() -> None:
    assert decide(Policy(), OPEN, None, OPEN.until - 1) is None
    due = decide(Policy(), OPEN, None, OPEN.until)
    assert due is not None
    assert due.after is State.HALF_OPEN


def test_a_clock_that_stepped_back_does_not_lengthen_the_wait() -> None:
    an_hour_ago = OPEN.since - 3_600_000
    assert decide(Policy(), OPEN, None, an_hour_ago, waited_ms=59_999) is None
    assert decide(Policy(), OPEN, None, an_hour_ago, waited_ms=60_000) is not None


@pytest.mark.parametrize(
    ("outcome", "after"),
    [(Outcome.SUCCESS, State.CLOSED), (Outcome.FAILURE, State.OPEN), (Outcome.TIMEOUT, State.OPEN)],
)
def test_the_trials_outcome_decides(outcome: Outcome, after: State) -> None:
    due = decide(Policy(), HALF_OPEN, None, NOW, trial=("token", outcome))
    assert due is not None
    assert (due.after, due.token) == (after, "token")


def test_half_open_without_a_trial_stands() -> None:
    assert decide(Policy(), HALF_OPEN, Totals(failures=100), NOW) is None


def test_a_transition_begins_a_new_generation_and_sets_its_end() -> None:
    due = decide(Policy(reset_timeout=5), CLOSED, Totals(failures=5), NOW)
    assert due is not None
    after = apply(CLOSED, due, NOW)
    assert (after.generation, after.since, after.until) == (2, NOW, NOW + 5_000)
    assert after.id not in ("g1", "")


@pytest.mark.parametrize("force", Force)
def test_a_forced_circuit_does_not_move(force: Force) -> None:
    forced = dataclasses.replace(CLOSED, force=force)
    assert decide(Policy(), forced, Totals(failures=100), NOW) is None
    assert decide(Policy(), dataclasses.replace(OPEN, force=force), None, OPEN.until) is None


@pytest.mark.parametrize("policy", [Policy(enabled=False), Policy()])
def test_a_disabled_circuit_passes_and_does_not_move(policy: Policy) -> None:
    disabled = CLOSED if not policy.enabled else dataclasses.replace(CLOSED, switch=False)
    assert decide(policy, disabled, Totals(failures=100), NOW) is None
    assert standing(policy, disabled, NOW).passes


def test_disabled_stands_over_forced_over_computed() -> None:
    forced = act_on(OPEN, Act(id="a", action=Action.CLOSE), NOW)
    assert standing(Policy(), forced, NOW).state is State.CLOSED
    assert forced.state is State.OPEN
    disabled = act_on(act_on(CLOSED, Act(id="a", action=Action.OPEN), NOW), Act(id="b", action=Action.DISABLE), NOW)
    assert standing(Policy(), disabled, NOW).passes
    assert standing(Policy(), disabled, NOW).forced is Force.OPEN


@pytest.mark.parametrize("action", [Action.RELEASE, Action.ENABLE, Action.RESET])
@pytest.mark.parametrize("before", [OPEN, HALF_OPEN])
def test_release_enable_and_reset_start_closed_in_a_new_generation(action: Action, before: Snapshot) -> None:
    after = act_on(before, Act(id="a", action=action), NOW)
    assert after.state is State.CLOSED
    assert after.id != before.id
    assert after.generation == before.generation + 1


def test_a_force_ends_at_its_time_and_leaves_a_fresh_closed_circuit() -> None:
    forced = act_on(OPEN, Act(id="a", action=Action.OPEN, for_ms=5_000), NOW)
    assert forced.force_until == NOW + 5_000
    assert forced.forced(NOW + 4_999) is Force.OPEN
    assert forced.forced(NOW + 5_000) is None
    lifted = machine.lift_expired(forced, NOW + 5_000)
    assert (lifted.force, lifted.state) == (None, State.CLOSED)
    assert lifted.id != forced.id


def test_an_operators_enable_stands_over_the_policy() -> None:
    enabled = act_on(CLOSED, Act(id="a", action=Action.ENABLE), NOW)
    assert standing(Policy(enabled=False), enabled, NOW).enabled


def test_reset_lifts_every_act() -> None:
    acted = dataclasses.replace(OPEN, force=Force.OPEN, switch=False)
    reset = act_on(acted, Act(id="a", action=Action.RESET), NOW)
    assert (reset.force, reset.switch, reset.state) == (None, None, State.CLOSED)


def test_a_transition_carries_the_counts_behind_it() -> None:
    totals = Totals(successes=1, failures=3, timeouts=2)
    totals.witnesses.update({("a", "1"): 3, ("a", "2"): 1, ("b", "3"): 1})
    due = decide(Policy(), CLOSED, totals, NOW)
    assert due is not None
    assert due.why == {
        "successes": 1, "failures": 3, "timeouts": 2, "errorRate": 83.33, "processes": 3, "hosts": 2
    }  # fmt: skip


def test_a_trials_transition_says_how_the_trial_ended() -> None:
    due = decide(Policy(), HALF_OPEN, None, NOW, trial=("token", Outcome.TIMEOUT))
    assert due is not None
    assert due.why == {"trial": "timeout"}


def test_only_an_open_circuit_has_an_end_of_its_own() -> None:
    closing = decide(Policy(), HALF_OPEN, None, NOW, trial=("token", Outcome.SUCCESS))
    assert closing is not None
    assert apply(HALF_OPEN, closing, NOW).until == 0
    assert (OPEN.ends(), CLOSED.ends()) == ([OPEN.until], [])


def test_a_circuit_changes_when_an_act_ends() -> None:
    acted = dataclasses.replace(CLOSED, force=Force.OPEN, force_until=NOW + 1, switch=False, switch_until=NOW + 2)
    assert acted.ends() == [NOW + 1, NOW + 2]


def test_a_disable_ends_at_its_time_and_leaves_a_fresh_closed_circuit() -> None:
    disabled = act_on(OPEN, Act(id="a", action=Action.DISABLE, for_ms=5_000), NOW)
    before, end = NOW + 4_999, NOW + 5_000
    assert [standing(Policy(), disabled, now).enabled for now in (before, end)] == [False, True]
    assert [disabled.expired(now) for now in (before, end)] == [False, True]
    assert machine.lift_expired(disabled, before) == disabled
    lifted = machine.lift_expired(disabled, end)
    assert (lifted.switch, lifted.switch_until, lifted.state, lifted.since) == (None, None, State.CLOSED, end)
    assert lifted.rev == lifted.id != disabled.id


def test_a_disabled_circuit_is_shown_as_not_enabled() -> None:
    assert standing(Policy(enabled=False), CLOSED, NOW).enabled is False


@pytest.mark.parametrize(("ended", "left"), [("force", "switch"), ("switch", "force")])
def test_an_act_that_ends_leaves_the_other_in_force(ended: str, left: str) -> None:
    acted = dataclasses.replace(
        CLOSED, force=Force.OPEN, switch=False, **{f"{ended}_until": NOW, f"{left}_until": NOW + 1}
    )
    lifted = machine.lift_expired(acted, NOW)
    assert (getattr(lifted, ended), getattr(lifted, f"{ended}_until")) == (None, None)
    assert (getattr(lifted, left), getattr(lifted, f"{left}_until")) == (getattr(acted, left), NOW + 1)


def test_acts_that_end_together_are_lifted_together() -> None:
    acted = dataclasses.replace(CLOSED, force=Force.OPEN, switch=False, force_until=NOW, switch_until=NOW)
    assert (machine.lift_expired(acted, NOW).force, machine.lift_expired(acted, NOW).switch) == (None, None)


def test_an_act_that_has_ended_is_lifted_before_anything_else_is_decided() -> None:
    ended = dataclasses.replace(CLOSED, force=Force.CLOSED, force_until=NOW)
    assert decide(Policy(), ended, Totals(failures=100), NOW) is None


@pytest.mark.parametrize("action", [Action.RELEASE, Action.ENABLE, Action.RESET])
def test_a_circuit_that_starts_afresh_stands_since_now_and_has_no_end(action: Action) -> None:
    after = act_on(OPEN, Act(id="a", action=action), NOW)
    assert (after.since, after.until, after.why) == (NOW, 0, {})


def test_an_act_is_dated_when_it_is_made_and_keeps_its_end_and_date_when_it_is_applied_again() -> None:
    made = act_on(CLOSED, Act(id="a", action=Action.OPEN, for_ms=5_000), NOW)
    assert (made.act_at, made.force_until) == (NOW, NOW + 5_000)
    again = act_on(CLOSED, Act(id="a", action=Action.OPEN, until=made.force_until, act_at=NOW), NOW + 3_000)
    assert (again.act_at, again.force_until) == (NOW, NOW + 5_000)


@pytest.mark.parametrize("action", Action)
def test_an_act_is_kept_with_who_did_it_from_where_and_why(action: Action) -> None:
    before = dataclasses.replace(OPEN, acted={"actor": "another"})
    after = act_on(before, Act(id="a", action=action, actor="ann", source="api", reason="why not"), NOW)
    assert after.acted == {"action": action.value, "actor": "ann", "source": "api", "reason": "why not"}

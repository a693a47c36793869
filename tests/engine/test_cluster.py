"""Several workers over one store: shared state, one trial, operators, and the store going away and coming back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from breaker.engine import desk, sync
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.lost_acts import LostActs
from breaker.engine.machine import Act, Action, Snapshot
from breaker.engine.policy import Policy
from breaker.engine.stores.base import StoreError
from breaker.engine.stores.memory import MemoryStore
from breaker.engine.window import total
from breaker.testing import Cluster, Failure, SharedMemory, fail, rejected, states, succeed


class Cable:
    """A worker's way to the shared store, which can be cut; `after` cuts it once a call has arrived."""

    def __init__(self, store: SharedMemory) -> None:
        self.store = store
        self.cut = False
        self.lose_answer_of = ""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        def through(*args: Any, **kwargs: Any) -> Any:
            if self.cut:
                raise StoreError("cut")
            answer = method(*args, **kwargs)
            if name == self.lose_answer_of:
                self.lose_answer_of = ""
                raise StoreError("the answer was lost")
            return answer

        return through


class Wired:
    """Two workers, each with its own cable to the store."""

    def __init__(self, **options: Any) -> None:
        self.cluster = Cluster(0)
        assert isinstance(self.cluster.store, SharedMemory)
        self.store = self.cluster.store
        self.cables = [Cable(self.store), Cable(self.store)]
        self.cluster.workers = [self.cluster.worker(store=cable) for cable in self.cables]  # type: ignore[arg-type]
        self.breakers = self.cluster.breakers(**options)

    def lost(self) -> None:
        for cable in self.cables:
            cable.cut = True
        self.cluster.advance(1.25)

    def back(self) -> None:
        for cable in self.cables:
            cable.cut = False
        self.cluster.advance(1)

    def told(self, kind: str) -> int:
        return sum(type(event).__name__ == kind for event in self.cluster.told)


# -- one state ---------------------------------------------------------------------------------------------------------


def test_failures_of_different_workers_add_up() -> None:
    cluster = Cluster(5)
    breakers = cluster.breakers()
    for breaker in breakers:
        fail(breaker)
    cluster.beat()
    assert states(breakers) == ["open"] * 5


def test_a_transition_is_told_once() -> None:
    cluster = Cluster(3)
    breakers = cluster.breakers(reset_timeout=1)
    fail(breakers[0], 5)
    cluster.advance(1)
    succeed(breakers[1])
    cluster.beat()
    assert cluster.transitions() == ["CLOSED>OPEN", "OPEN>HALF_OPEN", "HALF_OPEN>CLOSED"]


def test_the_unsent_successes_of_others_are_looked_at_before_opening() -> None:
    """Of ten workers one fails always, and the window has just restarted."""
    cluster = Cluster(10)
    breakers = cluster.breakers()
    for healthy in breakers[1:]:
        succeed(healthy, 3)
    fail(breakers[0], 5)
    assert breakers[0].current_state == "closed"


def test_one_trial_in_the_whole_cluster() -> None:
    cluster = Cluster(4)
    breakers = cluster.breakers(reset_timeout=1)
    fail(breakers[0], 5)
    cluster.advance(1)
    permit = breakers[2].admit()
    assert [rejected(breaker) for breaker in breakers] == [True] * 4
    permit.settle(None, None)
    cluster.beat()
    assert states(breakers) == ["closed"] * 4


def test_a_refused_worker_does_not_ask_again_at_once() -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers(reset_timeout=1)
    fail(first, 5)
    cluster.advance(1)
    permit = first.admit()
    assert rejected(second)
    permit.settle(None, KeyboardInterrupt())  # gives the lease back
    assert rejected(second)
    cluster.advance(0.25)
    assert not rejected(second)


def test_a_dead_trial_blocks_for_two_seconds_however_many_press() -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers(reset_timeout=1)
    fail(first, 5)
    cluster.advance(1)
    second.admit()
    cluster.workers.remove(second.sync)  # it beats no more
    for _ in range(7):
        cluster.advance(0.25)
        assert rejected(first)
    cluster.advance(0.5)
    assert not rejected(first)


def test_a_running_trial_is_renewed_up_to_its_timeout() -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers(reset_timeout=1, timeout=4)
    fail(first, 5)
    cluster.advance(1)
    permit = second.admit()
    cluster.advance(4.5)
    assert rejected(first)  # renewed: 4.5 s are more than a lease of 2
    cluster.advance(1)
    assert not rejected(first)  # timeout + 1 s are over: a hung trial does not block for ever
    permit.settle(None, None)
    assert first.current_state == "closed"


@pytest.mark.parametrize("error", [None, Failure()])
def test_a_late_trial_decides_nothing(error: Exception | None) -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers(reset_timeout=60, timeout=1)
    fail(first, 5)
    cluster.advance(60)
    late = second.admit()
    cluster.advance(2.25)
    current = first.admit()
    late.settle(None, error)
    cluster.beat()
    assert states([first, second]) == ["half-open"] * 2
    current.settle(None, None)
    cluster.beat()
    assert states([first, second]) == ["closed"] * 2


def test_the_state_outlives_the_workers() -> None:
    cluster = Cluster(1)
    (breaker,) = cluster.breakers()
    fail(breaker, 5)
    reborn = Cluster(0, store=cluster.store, clock=cluster.clock)
    reborn.workers = [reborn.worker(), reborn.worker(wall_ahead=900)]
    assert states(reborn.breakers()) == ["open", "open"]


def test_clocks_minutes_apart_agree_on_the_window_and_the_wait() -> None:
    cluster = Cluster(0)
    cluster.workers = [cluster.worker(wall_ahead=seconds) for seconds in (-600, 0, 600)]
    breakers = cluster.breakers(reset_timeout=2)
    for breaker, times in zip(breakers, (2, 2, 1), strict=True):
        fail(breaker, times)
    cluster.beat()
    assert states(breakers) == ["open"] * 3
    assert [breaker.retry_after for breaker in breakers] == [2, 2, 2]


def test_an_idle_worker_joins_later_and_follows() -> None:
    cluster = Cluster(1)
    (first,) = cluster.breakers()
    fail(first, 5)
    late = cluster.worker()
    breaker = SharedCircuitBreaker("x", Policy(), sync=late)
    assert breaker.current_state == "open"


def test_settings_that_differ_hold_for_their_own_worker() -> None:
    cluster = Cluster(2)
    guarded = SharedCircuitBreaker("x", Policy(), sync=cluster.workers[0])
    unguarded = SharedCircuitBreaker("x", Policy(enabled=False), sync=cluster.workers[1])
    cluster.beat()
    fail(guarded, 5)
    cluster.beat()
    assert rejected(guarded)
    assert not rejected(unguarded)


def test_reads_see_what_all_have_counted() -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers()
    succeed(first, 3)
    succeed(second, 4)
    cluster.beat()
    records, shared = desk.read(first.sync)
    assert shared
    assert total(records.records["x"].tallies).successes == 7


def test_missed_news_are_made_up_for() -> None:
    wired = Wired()
    first, second = wired.breakers
    wired.store.workers.remove(second.sync)  # it hears of no call for counts
    fail(first, 5)
    second.sync.ear.set(wired.store.cursor())  # as if the stream had been trimmed
    wired.cluster.advance(1)
    assert second.current_state == "closed"
    wired.cluster.advance(1)
    assert second.current_state == "open"


# -- operators ---------------------------------------------------------------------------------------------------------


def act(breaker: SharedCircuitBreaker, action: Action, **more: Any) -> tuple[Snapshot, Snapshot]:
    return desk.act(
        breaker.sync, "x", Act(id=f"act-{action.value}-{more}", action=action, **more), {"kind": "operation"}
    )


def test_a_reset_that_is_applied_again_closes_nothing_that_opened_since() -> None:
    cluster = Cluster(1)
    (breaker,) = cluster.breakers()
    fail(breaker, 5)
    act(breaker, Action.RESET, act_at=breaker.sync.now() + 1)
    assert breaker.current_state == "open"


def test_an_act_reaches_every_worker() -> None:
    cluster = Cluster(3)
    breakers = cluster.breakers()
    act(breakers[0], Action.OPEN)
    cluster.beat()
    assert states(breakers) == ["open"] * 3
    assert all(rejected(breaker) for breaker in breakers)


def test_forced_open_without_an_end_says_the_reset_timeout() -> None:
    cluster = Cluster(1)
    (breaker,) = cluster.breakers(reset_timeout=42)
    act(breaker, Action.OPEN)
    cluster.advance(100)
    assert breaker.retry_after == 42
    assert breaker.current_state == "open"


def test_a_force_ends_at_its_time_in_every_worker() -> None:
    cluster = Cluster(2)
    breakers = cluster.breakers()
    act(breakers[0], Action.OPEN, for_ms=5_000)
    cluster.beat()
    assert breakers[1].retry_after == 5
    cluster.advance(4.75)
    assert states(breakers) == ["open"] * 2
    cluster.advance(0.5)
    assert states(breakers) == ["closed"] * 2


def test_forced_closed_never_opens_and_release_starts_afresh() -> None:
    cluster = Cluster(2)
    breakers = cluster.breakers()
    act(breakers[0], Action.CLOSE)
    cluster.beat()
    fail(breakers[1], 20)
    assert states(breakers) == ["closed"] * 2
    act(breakers[0], Action.RELEASE)
    cluster.beat()
    fail(breakers[1], 4)
    assert breakers[1].current_state == "closed"
    fail(breakers[1])
    assert breakers[1].current_state == "open"


def test_a_reset_closes_and_drops_the_lease() -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers(reset_timeout=1)
    fail(first, 5)
    cluster.advance(1)
    trial = second.admit()
    act(first, Action.RESET)
    cluster.beat()
    trial.settle(None, Failure())
    cluster.beat()
    assert states([first, second]) == ["closed"] * 2


def test_an_act_applied_again_yields_to_a_newer_one() -> None:
    cluster = Cluster(1)
    (breaker,) = cluster.breakers()
    _, opened = act(breaker, Action.OPEN)
    cluster.advance(1)
    act(breaker, Action.RELEASE)
    act(breaker, Action.OPEN, act_at=opened.act_at)
    assert breaker.current_state == "closed"


def test_an_act_without_the_store_fails_and_says_so() -> None:
    wired = Wired()
    wired.cables[0].cut = True
    with pytest.raises(StoreError):
        act(wired.breakers[0], Action.OPEN)
    wired.back()
    assert states(wired.breakers) == ["closed"] * 2


# -- the store goes away -----------------------------------------------------------------------------------------------


def test_a_lost_store_fails_no_call_and_is_told_once() -> None:
    wired = Wired()
    wired.lost()
    for breaker in wired.breakers:
        succeed(breaker, 10)
        fail(breaker, 2)
    wired.cluster.advance(5)
    assert not any(worker.sharing for worker in wired.cluster.workers)
    assert (wired.told("StoreLost"), wired.told("StoreBack")) == (2, 0)


def test_each_worker_guards_itself_alone() -> None:
    wired = Wired(reset_timeout=1)
    first, second = wired.breakers
    wired.lost()
    fail(first, 5)
    assert states([first, second]) == ["open", "closed"]
    wired.cluster.advance(1)
    trial = first.admit()
    assert rejected(first)
    trial.settle(None, None)
    assert first.current_state == "closed"


def test_an_open_circuit_stays_open_when_the_store_goes() -> None:
    wired = Wired()
    fail(wired.breakers[0], 5)
    wired.cluster.beat()
    wired.lost()
    assert states(wired.breakers) == ["open"] * 2


def test_three_good_beats_bring_the_shared_state_back() -> None:
    wired = Wired()
    wired.lost()
    for cable in wired.cables:
        cable.cut = False
    shared = []
    for _ in range(3):
        wired.cluster.advance(0.25)
        shared.append(wired.cluster.workers[0].sharing)
    assert shared == [False, False, True]
    assert wired.told("StoreBack") == 2


def test_counts_made_alone_are_sent() -> None:
    wired = Wired()
    wired.lost()
    succeed(wired.breakers[0], 7)
    wired.cluster.advance(1)
    wired.back()
    records, shared = desk.read(wired.breakers[1].sync)
    assert shared
    assert total(records.records["x"].tallies).successes == 7


def test_a_push_whose_answer_was_lost_is_counted_once() -> None:
    wired = Wired()
    succeed(wired.breakers[0], 3)
    wired.cables[0].lose_answer_of = "push"
    wired.cluster.advance(2)
    records, _ = desk.read(wired.breakers[1].sync)
    assert total(records.records["x"].tallies).successes == 3


def test_a_transition_whose_answer_was_lost_is_told_once() -> None:
    wired = Wired()
    fail(wired.breakers[0], 4)
    wired.cables[0].lose_answer_of = "write"
    fail(wired.breakers[0])
    wired.cluster.advance(2)
    assert states(wired.breakers) == ["open"] * 2
    assert wired.cluster.transitions() == ["CLOSED>OPEN"]


def test_a_transition_whose_answer_was_lost_is_the_same_one_here(caplog: pytest.LogCaptureFixture) -> None:
    wired = Wired(reset_timeout=1)
    first, _ = wired.breakers
    fail(first, 4)
    wired.cables[0].lose_answer_of = "write"
    fail(first)
    assert not first.sync.sharing
    assert first.snapshot.id == wired.store.load(["x"]).records["x"].snapshot.id
    wired.cluster.advance(2)
    trial = first.admit()
    wired.cables[0].lose_answer_of = "write"
    trial.settle(None, None)
    assert not first.sync.sharing
    assert first.snapshot.id == wired.store.load(["x"]).records["x"].snapshot.id
    assert wired.cluster.transitions() == ["CLOSED>OPEN", "OPEN>HALF_OPEN", "HALF_OPEN>CLOSED"]
    assert not caplog.records


def test_a_host_cut_off_for_twenty_minutes_does_not_poison_the_cluster() -> None:
    wired = Wired(reset_timeout=30)
    first, second = wired.breakers
    wired.cables[1].cut = True
    fail(second, 5)
    for _ in range(40):
        wired.cluster.advance(30.25)
        succeed(first, 10)
        fail(second)  # the trial
    assert second.snapshot.generation > 40
    wired.back()
    assert states([first, second]) == ["closed"] * 2


def test_a_host_that_was_cut_off_does_not_undo_an_operators_act() -> None:
    wired = Wired(reset_timeout=1)
    first, second = wired.breakers
    wired.cables[1].cut = True
    wired.cluster.advance(1.25)
    act(first, Action.OPEN)
    fail(second, 5)
    wired.cluster.advance(3)
    succeed(second)
    wired.back()
    assert states([first, second]) == ["open"] * 2


def test_an_open_found_alone_is_taken_when_the_others_cannot_judge() -> None:
    wired = Wired(reset_timeout=600)
    first, second = wired.breakers
    wired.cables[1].cut = True
    fail(second, 5)
    wired.cluster.advance(2)
    wired.back()
    assert states([first, second]) == ["open"] * 2
    assert second.retry_after < 600


def test_failures_sent_after_the_return_are_judged_though_no_call_follows() -> None:
    wired = Wired(reset_timeout=600)
    first, second = wired.breakers
    succeed(first)
    succeed(second)
    wired.cluster.beat()
    wired.cables[1].cut = True
    fail(second, 4)
    assert states([first, second]) == ["closed", "open"]
    wired.back()
    assert states([first, second]) == ["open"] * 2


def test_a_store_that_comes_back_empty_is_seeded() -> None:
    wired = Wired()
    fail(wired.breakers[0], 5)
    wired.cluster.beat()
    wired.store._empty()
    wired.cluster.advance(2)
    assert states(wired.breakers) == ["open"] * 2
    assert wired.store.load(["x"]).records["x"].snapshot.state.value == "OPEN"


@pytest.mark.parametrize("noticed", [True, False])
def test_who_is_born_into_an_emptied_store_does_not_close_what_others_know_to_be_open(noticed: bool) -> None:
    """Redis restarts and a worker is born just then, and comes first. `noticed`: the others had lost it meanwhile."""
    wired = Wired()
    fail(wired.breakers[0], 5)
    wired.cluster.beat()
    if noticed:
        wired.lost()
    wired.store._empty()
    born = SharedCircuitBreaker("x", Policy(), sync=wired.cluster.worker())
    born.sync.beat()
    assert born.current_state == "closed"
    wired.cluster.workers.append(born.sync)
    wired.back()
    assert states([*wired.breakers, born]) == ["open"] * 3
    assert wired.cluster.transitions() == ["CLOSED>OPEN"]


def test_who_is_born_into_an_emptied_store_does_not_close_the_half_open_door() -> None:
    wired = Wired(reset_timeout=1)
    fail(wired.breakers[0], 5)
    wired.cluster.advance(1)
    assert states(wired.breakers) == ["half-open"] * 2
    wired.store._empty()
    born = SharedCircuitBreaker("x", Policy(reset_timeout=1), sync=wired.cluster.worker())
    born.sync.beat()
    wired.cluster.workers.append(born.sync)
    wired.cluster.advance(1.25)
    assert states([*wired.breakers, born]) == ["open"] * 3  # for a lease, as after the death of a holder
    assert wired.cluster.transitions()[-1] == "HALF_OPEN>OPEN"


def test_what_was_born_and_has_moved_since_is_believed() -> None:
    wired = Wired()
    fail(wired.breakers[0], 5)
    wired.cluster.beat()
    wired.lost()
    wired.store._empty()
    born = SharedCircuitBreaker("x", Policy(reset_timeout=1), sync=wired.cluster.worker())
    born.sync.beat()
    desk.act(born.sync, "x", Act(id="reset", action=Action.RESET), {})
    wired.back()
    assert states(wired.breakers) == ["closed"] * 2


def test_a_trial_whose_lease_was_lost_with_the_data_is_followed_by_another_a_lease_later() -> None:
    wired = Wired(reset_timeout=1, timeout=60)
    first, second = wired.breakers
    fail(first, 5)
    wired.cluster.advance(1)
    running = first.admit()
    wired.store._empty()
    wired.cluster.advance(1.5)  # all have found out and put back what they know
    assert [rejected(breaker) for breaker in wired.breakers] == [True, True]
    running.settle(None, None)  # it may have been overtaken, so it decides nothing
    assert states(wired.breakers) == ["open"] * 2
    wired.cluster.advance(2)
    assert not rejected(second)
    assert wired.cluster.transitions() == [
        "CLOSED>OPEN", "OPEN>HALF_OPEN", "HALF_OPEN>OPEN", "OPEN>HALF_OPEN", "HALF_OPEN>CLOSED",
    ]  # fmt: skip


def test_what_operators_said_is_looked_up_when_the_store_has_lost_it() -> None:
    lost: list[str] = []
    wired = Wired()
    for worker in wired.cluster.workers:
        worker.on_lost_data = lost.extend
    wired.store._empty()
    wired.cluster.advance(2)
    assert lost[:1] == ["x"]


def test_a_store_that_went_back_in_time_is_believed() -> None:
    wired = Wired()
    before = dict(wired.store._circuits)
    fail(wired.breakers[0], 5)
    wired.cluster.beat()
    wired.store._circuits, wired.store._seq = before, 1  # a failover to a replica that lagged
    wired.cluster.advance(2)
    assert states(wired.breakers) == ["closed"] * 2


def test_a_store_that_is_away_at_the_start_is_found_later() -> None:
    cluster = Cluster(0)
    assert isinstance(cluster.store, SharedMemory)
    cable = Cable(cluster.store)
    cable.cut = True
    cluster.workers = [cluster.worker(store=cable)]  # type: ignore[arg-type]
    (breaker,) = cluster.breakers()
    succeed(breaker)
    cable.cut = False
    cluster.advance(2)
    assert breaker.sync.sharing


def test_a_trial_that_ends_after_the_store_went_still_decides_here() -> None:
    wired = Wired(reset_timeout=1)
    first, _ = wired.breakers
    fail(first, 5)
    wired.cluster.advance(1)
    trial = first.admit()
    wired.lost()
    trial.settle(None, None)
    assert first.current_state == "closed"


def test_a_call_that_finds_the_store_gone_at_the_half_open_door_is_the_trial_here() -> None:
    wired = Wired(reset_timeout=1)
    first, _ = wired.breakers
    fail(first, 5)
    wired.cluster.advance(1)
    wired.cables[0].cut = True
    succeed(first)
    assert first.current_state == "closed"


def test_what_operators_said_is_looked_up_when_the_store_went_back_in_time() -> None:
    lost: list[str] = []
    wired = Wired()
    for worker in wired.cluster.workers:
        worker.on_lost_data = lost.extend
    fail(wired.breakers[0], 5)
    wired.cluster.beat()
    wired.store._seq = 1
    wired.cluster.advance(2)
    assert "x" in lost


def test_a_backward_step_of_the_stores_clock_does_not_lengthen_the_wait() -> None:
    wired = Wired(reset_timeout=10)
    first, _ = wired.breakers
    fail(first, 5)
    wired.store._clock = lambda real=wired.store._clock: real() - 3_600_000
    wired.cluster.advance(10.25)
    assert first.current_state == "half-open"


def test_a_fork_begins_with_empty_counts_and_follows_again() -> None:
    cluster = Cluster(1)
    (breaker,) = cluster.breakers()
    fail(breaker, 2)
    succeed(breaker, 2)
    parents = cluster.workers[0].process
    cluster.workers[0].after_fork()  # what the child does
    assert cluster.workers[0].process != parents
    cluster.beat()
    records, shared = desk.read(breaker.sync)
    assert shared
    assert total(records.records["x"].tallies).completed == 2
    assert dataclasses.asdict(breaker.snapshot)["state"] is breaker.snapshot.state


# -- what a review found -----------------------------------------------------------------------------------------------


def test_counts_do_not_pile_up_while_the_store_is_away() -> None:
    wired = Wired(rolling_count_timeout=10)
    wired.lost()
    for _ in range(200):
        succeed(wired.breakers[0])
        wired.cluster.advance(1)
    assert len(wired.breakers[0].sync.link._ledger._unsent) < 100  # of 200: what the longest window can still use


def test_making_a_breaker_alone_keeps_the_running_trials() -> None:
    wired = Wired(reset_timeout=1)
    first, _ = wired.breakers
    wired.lost()
    fail(first, 5)
    wired.cluster.advance(1)
    trial = first.admit()
    SharedCircuitBreaker("another", Policy(), sync=first.sync)
    trial.settle(None, None)
    assert first.current_state == "closed"


def test_a_decision_is_made_only_over_the_snapshot_that_it_was_judged_by() -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers()
    fail(first, 4)
    verdict = first.sync.judge._verdict

    def reset_meanwhile(circuit: Any, pushed: Any) -> Any:
        judged = verdict(circuit, pushed)
        if judged:
            act(second, Action.RESET)
            first.sync.listen(0)
        return judged

    first.sync.judge._verdict = reset_meanwhile  # type: ignore[method-assign]
    fail(first)
    cluster.beat()
    assert states([first, second]) == ["closed"] * 2


def test_older_news_never_replaces_newer() -> None:
    cluster = Cluster(2)
    first, second = cluster.breakers()
    older = first.snapshot
    fail(second, 5)
    cluster.beat()
    first.sync._follow("x", older)
    assert first.current_state == "open"


def test_failures_of_an_unguarded_worker_open_nobody_elses_circuit() -> None:
    cluster = Cluster(2)
    unguarded = SharedCircuitBreaker("x", Policy(enabled=False), sync=cluster.workers[0])
    guarded = SharedCircuitBreaker("x", Policy(), sync=cluster.workers[1])
    cluster.beat()
    fail(unguarded, 40)
    cluster.beat()
    fail(guarded)
    assert guarded.current_state == "closed"
    records, _ = desk.read(guarded.sync)
    assert total(records.records["x"].tallies).failures == 41


def test_seeding_does_not_prolong_a_force() -> None:
    wired = Wired()
    first, _ = wired.breakers
    fail(first, 5)
    act(first, Action.OPEN, for_ms=300_000)
    wired.cluster.advance(200)
    wired.store._empty()
    wired.cluster.advance(2)
    assert first.retry_after <= 99


def test_a_lease_given_before_the_clock_was_set_back_does_not_wedge() -> None:
    wired = Wired(reset_timeout=1)
    first, second = wired.breakers
    fail(first, 5)
    wired.cluster.advance(1)
    second.admit()
    wired.cluster.workers.remove(second.sync)  # the owner is dead
    wired.store._clock = lambda real=wired.store._clock: real() - 3_600_000
    wired.cluster.advance(2.5)
    assert not rejected(first)


def test_the_process_that_holds_the_only_trial_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1)
    (breaker,) = cluster.breakers(reset_timeout=1)
    fail(breaker, 5)
    cluster.advance(1)
    trial = breaker.admit()
    cluster.advance(3)
    monkeypatch.setattr(cluster.store, "lease", lambda request: pytest.fail("asked"))
    assert rejected(breaker)
    trial.settle(None, None)
    assert breaker.current_state == "closed"


def test_a_forks_copy_of_a_permit_settles_nothing() -> None:
    cluster = Cluster(1)
    (breaker,) = cluster.breakers()
    permit = breaker.admit()
    cluster.workers[0].after_fork()
    permit.settle(None, Failure())
    assert breaker.fail_counter == 0


def test_one_sync_that_cannot_be_renewed_after_a_fork_keeps_no_other_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wired = Wired()
    wired.cables[0].cut = True
    with pytest.raises(StoreError):
        wired.cluster.workers[0].after_fork()  # so the hook itself must go on
    others = wired.cluster.workers[1].process
    sync._after_fork_in_child()
    assert wired.cluster.workers[1].process != others
    assert "breaker state could not be renewed after a fork" in caplog.messages


def test_a_circuit_whose_key_alone_was_lost_still_opens() -> None:
    wired = Wired()
    first, _ = wired.breakers
    del wired.store._circuits["x"]
    fail(first, 5)
    wired.cluster.beat()
    assert states(wired.breakers) == ["open"] * 2


def test_lost_acts_are_looked_up_until_it_has_worked() -> None:
    wired = Wired()
    worker = wired.cluster.workers[0]
    asked: list[str] = []

    def look_up(names: Any) -> None:
        asked.append(names[0])
        if len(asked) < 3:
            raise OSError("the database is away")

    worker.on_lost_data = look_up
    wired.store._empty()
    wired.cluster.advance(60)
    assert asked == ["x"] * 3


def test_acts_that_were_lost_at_different_times_are_all_looked_up() -> None:
    asked: list[Any] = []
    lost = LostActs(asked.append, monotonic=lambda: 0.0, thread=False)
    lost.of(["y"])
    lost.of(["x"])
    lost.seek()
    assert asked == [["x", "y"]]


def test_a_look_up_that_fails_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    def look_up(names: Any) -> None:
        raise OSError("the database is away")

    lost = LostActs(look_up, monotonic=lambda: 0.0, thread=False)
    lost.of(["x"])
    lost.seek()
    assert caplog.messages == ["operators' acts could not be looked up to apply them again: the database is away"]


def test_an_act_whose_answer_was_lost_is_known_to_hold() -> None:
    wired = Wired()
    wired.cables[0].lose_answer_of = "write"
    _, after = act(wired.breakers[0], Action.OPEN)
    assert after.force is not None


def test_the_end_of_a_force_is_told_once() -> None:
    cluster = Cluster(3)
    breakers = cluster.breakers()
    act(breakers[0], Action.OPEN, for_ms=1_000)
    cluster.advance(2)
    assert sum(type(event).__name__ == "ActEnded" for event in cluster.told) == 1


def test_every_transition_carries_the_counts_behind_it() -> None:
    cluster = Cluster(1)
    (breaker,) = cluster.breakers(reset_timeout=1)
    fail(breaker, 5)
    cluster.advance(1)
    fail(breaker)
    cluster.advance(1)
    succeed(breaker)
    told = [event.why for event in cluster.told if type(event).__name__ == "Transitioned"]
    assert [why["failures"] for why in told] == [5, 5, 6, 6, 6]
    assert all(why["processes"] == 1 and "errorRate" in why for why in told)


def test_no_thread_to_be_had_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = sync.Sync(MemoryStore(lambda: 0))

    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    breaker = SharedCircuitBreaker("x", Policy(), sync=alone)
    succeed(breaker)
    fail(breaker, 4)
    assert breaker.current_state == "open"
    assert alone.lost_reason == "no background thread: can't start new thread"


def test_who_loses_the_store_over_a_call_for_counts_says_so_and_keeps_nobody_from_opening() -> None:
    wired = Wired()
    first, second = wired.breakers
    wired.cables[1].lose_answer_of = "push"
    fail(first, 5)
    assert (first.current_state, wired.told("StoreLost")) == ("open", 1)
    assert not second.sync.sharing


def test_the_opener_answers_its_caller_only_when_the_others_have_heard() -> None:
    cluster = Cluster(3)
    breakers = cluster.breakers()
    fail(breakers[0], 5)
    assert states(breakers) == ["open"] * 3  # without a beat of theirs


def test_who_joins_registers_its_breakers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(1)
    registered: list[str] = []
    register = cluster.store.register
    monkeypatch.setattr(
        cluster.store, "register", lambda some: (registered.extend(one.name for one in some), register(some))
    )
    second = cluster.worker()
    SharedCircuitBreaker("x", sync=second)
    cluster.workers.append(second)
    cluster.advance(10)
    assert registered == ["x"]

"""Random schedules: the engine and the reference live through the same, and everything seen of them is compared.

A step is one of the rules; after it, who is awake listens, and all is compared. Time goes in steps of 250 ms, the grain
of the engine's counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from breaker.engine import desk, events
from breaker.engine.circuit import CallRejected, Permit, SharedCircuitBreaker
from breaker.engine.machine import Act, Action
from breaker.engine.policy import Policy
from breaker.engine.stores.base import StoreError, Window
from breaker.engine.sync import Sync
from breaker.engine.window import total
from tests.engine.model import members
from tests.engine.model.members import Member, World
from tests.engine.model.shared import SharedMemory
from tests.engine.model.wires import Wire

EPOCH_MS = 1_700_000_000_000
TICK = 0.25

POLICIES = st.builds(
    Policy,
    timeout=st.sampled_from([1.0, 3.0]),
    error_threshold_percentage=st.sampled_from([50, 0, 34]),
    reset_timeout=st.sampled_from([1.0, 0.5, 4.0]),
    rolling_count_timeout=st.sampled_from([8.0, 8.0, 4.0]),
    rolling_count_buckets=st.sampled_from([4, 4, 2]),
    volume_threshold=st.sampled_from([2, 1, 3, 5]),
    enabled=st.sampled_from([True] * 7 + [False]),
    capacity=st.sampled_from([None, None, 2]),
    half_open_max_calls=st.sampled_from([1, 1, 2]),
)
WHICH = st.integers(0, 3)
MINUTES_AHEAD = st.sampled_from([0, 10, -10])
"""By which a worker's own clock is wrong."""
HOW = st.sampled_from(["cut", "mute", 0, 250, 2_000])
ACTIONS = [*Action, Action.RESET, Action.RESET]
OUTCOMES = {"s": None, "f": ValueError(), "t": TimeoutError()}


def profile(*, schedules: int, derandomize: bool = False) -> settings:
    """How many schedules of up to 50 steps; nothing is kept on disk, and no run is too slow."""
    return settings(
        max_examples=schedules,
        stateful_step_count=50,
        derandomize=derandomize,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


class Clock:
    """Seconds since the schedule began."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def ms(self) -> int:
        return EPOCH_MS + int(self.seconds * 1000)


class Worker:
    """One process: the engine's and the reference's."""

    def __init__(self, model: Schedule, number: int, policy: Policy, *, clock_ahead: float) -> None:
        clock, name = model.clock, f"worker {number}"
        booted = number * 37.25
        self.policy = policy
        self.wire = Wire(model.store, clock.ms)
        self.sync = Sync(
            self.wire,  # type: ignore[arg-type]
            monotonic=lambda: clock.seconds + 1000 + booted,
            wall=lambda: clock.ms() / 1000 + clock_ahead,
            threads=False,
            tell=lambda event: model.told.extend((name, *told) for told in _told(event)),
        )
        self.breaker = SharedCircuitBreaker("x", policy, sync=self.sync)
        self.member = Member(model.world, name, policy)
        self.permits: list[tuple[Permit, members.Permit]] = []

    def wake(self, model: Schedule, awake: bool) -> None:
        self.member.awake = awake
        if awake and self.sync not in model.store.awake:
            model.store.awake.append(self.sync)
            self.listen()
        elif not awake and self.sync in model.store.awake:
            model.store.awake.remove(self.sync)

    def listen(self) -> None:
        self.sync.listen(0)
        self.member.listen()

    def beat(self) -> None:
        self.sync.beat()
        self.member.beat()


def _told(event: Any) -> list[tuple[str, ...]]:
    """What the reference tells too: what calls did is left out."""
    if isinstance(event, events.Transitioned):
        return [("Transitioned", event.before.value, event.after.value)]
    return [(type(event).__name__,)] if isinstance(event, events.ActEnded | events.StoreLost | events.StoreBack) else []


class Schedule(RuleBasedStateMachine):
    steps = 0
    seen: ClassVar[Counter[str]] = Counter()
    """What has happened in all schedules, lest they be tame."""
    shared: ClassVar[Callable[[Callable[[], int]], Any]] = SharedMemory
    """Makes the store, given its clock."""

    @initialize(workers=st.lists(st.tuples(POLICIES, MINUTES_AHEAD), min_size=1, max_size=3), alike=st.booleans())
    def begin(self, workers: list[tuple[Policy, int]], alike: bool) -> None:
        self.clock = Clock()
        self.store = self.shared(self.clock.ms)
        self.world = World(self.clock.ms)
        self.told: list[tuple[str, ...]] = []
        self.workers: list[Worker] = []
        self.dead: list[Worker] = []
        self.copies: tuple[Any, Any] | None = None
        self.names: dict[int, str] = {}
        self.acts = 0
        self.born = 0
        for policy, minutes in workers:
            self._start(workers[0][0] if alike else policy, minutes)
        lengths = {worker.policy.rolling_count_timeout for worker in self.workers}
        self.seen["begun with windows of two lengths"] += len(lengths) > 1
        self.seen["begun with a wrong clock"] += any(minutes for _, minutes in workers)

    def _start(self, policy: Policy, minutes_ahead: int) -> None:
        self.born += 1
        worker = Worker(self, self.born, policy, clock_ahead=60.0 * minutes_ahead)
        self.workers.append(worker)
        self.world.members.append(worker.member)
        worker.beat()
        self.store.awake.append(worker.sync)

    def _worker(self, which: int) -> Worker:
        return self.workers[which % len(self.workers)]

    # -- calls -----------------------------------------------------------------------------------------------------

    @rule(which=WHICH)
    def admit(self, which: int) -> None:
        worker = self._worker(which)
        expected = worker.member.admit()
        try:
            permit = worker.breaker.admit()
        except CallRejected as rejected:
            self._same_rejection(worker, rejected, expected)
        else:
            assert isinstance(expected, members.Permit), expected
            self.seen["admitted on trial" if expected.token else "admitted"] += 1
            worker.permits.append((permit, expected))

    def _same_rejection(self, worker: Worker, rejected: CallRejected, expected: object) -> None:
        self.seen[f"rejected: {expected}"] += 1
        assert rejected.reason == expected
        assert rejected.retry_after == (1 if expected == "capacity" else worker.member.retry_after())

    @rule(which=WHICH, last=st.booleans(), kind=st.sampled_from(["s", "f", "t", None]))
    def settle(self, which: int, last: bool, kind: str | None) -> None:
        worker = self._worker(which)
        if worker.permits:
            permit, expected = worker.permits.pop(-1 if last else 0)
            permit.settle(None, KeyboardInterrupt() if kind is None else OUTCOMES[kind])
            worker.member.settle(expected, kind)

    @rule(which=WHICH, kinds=st.lists(st.sampled_from("fst"), min_size=1, max_size=4))
    def call(self, which: int, kinds: list[str]) -> None:
        """Whole calls, by the way that most calls take."""
        worker = self._worker(which)
        for kind in kinds:
            expected = worker.member.admit()
            try:
                worker.breaker.call(_ends, OUTCOMES[kind])
                ended = None
            except Exception as error:
                ended = error
            if isinstance(ended, CallRejected):
                self._same_rejection(worker, ended, expected)
            else:
                assert isinstance(expected, members.Permit), expected
                assert ended is OUTCOMES[kind]
                worker.member.settle(expected, kind)

    @rule(which=WHICH)
    def fails(self, which: int) -> None:
        self.call(which, ["f"] * 5)

    @rule(which=WHICH, successes=st.sampled_from([4, 1, 10]))
    def one_fails_alone(self, which: int, successes: int) -> None:
        """The window has just restarted, and the others have not sent yet what speaks against it."""
        self._begins_afresh(which)
        for other in range(len(self.workers)):
            if self.workers[other] is not self._worker(which):
                self.call(other, ["s"] * successes)
        self.call(which, ["f"] * self._worker(which).policy.volume_threshold)

    @rule()
    def all_press(self) -> None:
        for which in range(len(self.workers)):
            self.admit(which)

    # -- time ------------------------------------------------------------------------------------------------------

    @rule(ticks=st.integers(1, 10))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            self.clock.seconds += TICK
            for worker in self.workers:
                if worker.member.awake:
                    worker.beat()
            self._same_views()  # for what one did alone may be forgotten by the end
            self._hear()

    @rule()
    def wait_for_the_trial(self) -> None:
        self.time_passes(int(max(worker.policy.reset_timeout for worker in self.workers) / TICK))

    @rule(which=WHICH, kind=st.sampled_from("ssf"))
    def a_trial(self, which: int, kind: str) -> None:
        self.wait_for_the_trial()
        self.call(which, [kind])

    @rule(which=WHICH, ticks=st.integers(1, 12), wakes=st.booleans(), kind=st.sampled_from(["s", "f", None]))
    def a_trial_stalls(self, which: int, ticks: int, wakes: bool, kind: str | None) -> None:
        """Its holder beats no more, others press meanwhile, and it ends all the same."""
        self.fails(which)
        self.wait_for_the_trial()
        self.admit(which)
        self.sleeps_or_wakes(which, False)
        for _ in range(ticks):
            self.time_passes(1)
            self.all_press()
        self.sleeps_or_wakes(which, wakes)
        self.one_beats(which)
        self.all_press()
        self.settle(which, False, kind)

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 70.0]))
    def all_stand_still(self, seconds: float) -> None:
        """As a suspended machine does: time passes and nobody beats."""
        self.clock.seconds += seconds

    @rule(which=WHICH)
    def one_beats(self, which: int) -> None:
        self._worker(which).beat()

    @rule(which=WHICH, awake=st.booleans())
    def sleeps_or_wakes(self, which: int, awake: bool) -> None:
        """The background threads of a worker that sleeps get no processor time: it neither beats nor listens."""
        self._worker(which).wake(self, awake)

    def _hear(self) -> None:
        """Who is awake hears of what happened, and what was held up between a worker and the store arrives."""
        for worker in self.workers:
            if worker.member.awake:
                worker.listen()
        for worker in self.workers + self.dead:
            assert worker.wire.deliver() == worker.member.wire.deliver()

    # -- workers ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.workers) < 4)
    @rule(policy=POLICIES, minutes=MINUTES_AHEAD, alike=st.booleans())
    def joins(self, policy: Policy, minutes: int, alike: bool) -> None:
        self._start(self.workers[0].policy if alike else policy, minutes)

    @precondition(lambda self: len(self.workers) > 1)
    @rule(which=WHICH)
    def dies(self, which: int) -> None:
        worker = self._worker(which)
        worker.wake(self, False)
        self.workers.remove(worker)
        self.world.members.remove(worker.member)
        self.dead.append(worker)

    # -- what lies between -----------------------------------------------------------------------------------------

    @rule(which=WHICH, command=st.sampled_from(["push", "write", "lease"]), how=HOW, lasts=st.booleans())
    def a_command_will_fail(self, which: int, command: str, how: Any, lasts: bool) -> None:
        worker = self._worker(which)
        worker.wire.trap = worker.member.wire.trap = (command, how, lasts)

    @rule(which=WHICH, command=st.sampled_from(["push", "write", "lease"]), how=HOW, afresh=st.booleans())
    def a_command_fails(self, which: int, command: str, how: Any, afresh: bool) -> None:
        """Once, in the midst of a trip or of a trial."""
        if afresh:
            self._begins_afresh(which)
        if command == "lease":
            self.fails(which)
            self.wait_for_the_trial()
        self.a_command_will_fail(which, command, how, False)
        self.fails(which)
        self.time_passes(3)
        self.all_press()

    @rule(which=WHICH, everybody=st.booleans(), how=st.none() | HOW)
    def store_lost_or_back(self, which: int, everybody: bool, how: Any) -> None:
        for worker in self.workers if everybody else [self._worker(which)]:
            for wire in (worker.wire, worker.member.wire):
                wire.down, wire.trap = how, None

    # -- the store's data ------------------------------------------------------------------------------------------

    @rule()
    def store_emptied(self) -> None:
        self.seen["store emptied"] += 1
        self.store.empty()
        self.world.store.empty()

    @rule(back=st.booleans())
    def store_copied_or_goes_back(self, back: bool) -> None:
        """A failover brings back what a replica had that lagged."""
        if not back:
            self.copies = self.store.copied(), self.world.store.copied()
        elif self.copies is not None:
            self.seen["store goes back"] += 1
            self.store.restore(self.copies[0])
            self.world.store.goes_back(self.copies[1])

    # -- operators and readers -------------------------------------------------------------------------------------

    @rule(which=WHICH, action=st.sampled_from(ACTIONS), for_ms=st.sampled_from([500, None, 2_000]))
    def operator(self, which: int, action: Action, for_ms: int | None) -> None:
        worker = self._worker(which)
        self.acts += 1
        seen = []
        for act in (
            lambda: desk.act(worker.sync, "x", Act(id=f"act-{self.acts}", action=action, for_ms=for_ms), {}),
            lambda: worker.member.act(action.value, for_ms),
        ):
            try:
                act()
            except StoreError:
                seen.append("failed")
            else:
                seen.append("done")
        assert seen[0] == seen[1]
        self.seen[f"act {seen[0]}"] += 1

    @rule(which=WHICH)
    def reads(self, which: int) -> None:
        worker = self._worker(which)
        records, shared = desk.read(worker.sync, ["x"])
        totals = total(records.records["x"].tallies)
        assert (_as_counter(totals), shared) == worker.member.read()

    @rule()
    def all_is_well_for_a_while(self) -> None:
        """Then all follow the store, and the circuit is not stuck."""
        self.store_lost_or_back(0, True, None)
        for worker in self.workers:
            worker.wake(self, True)
        self.time_passes(12)
        for worker in self.workers:
            assert worker.sync.sharing
            stands = self.store.load(["x"]).records["x"].snapshot
            assert stands is not None
            assert worker.breaker.snapshot == stands

    def _begins_afresh(self, which: int) -> None:
        self.all_is_well_for_a_while()
        self.operator(which, Action.RESET, None)
        self._hear()

    # -- what must agree -------------------------------------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        type(self).steps += 1
        self._same_views()
        self._hear()
        assert self.told == self.world.told, (self.told, self.world.told)
        self.seen.update(" ".join(what) for _, *what in self.told)
        self.told.clear()
        self.world.told.clear()
        self.seen.update(self.world.seen)
        self.world.seen.clear()
        self._same_views()
        found, expected = self.store.load(["x"]).records["x"].snapshot, self.world.store.head
        assert (found is None) == (expected is None)
        if found is not None:
            self._same(found, expected)
        self._same_counts()

    def _same_views(self) -> None:
        for worker in self.workers:
            sync, member = worker.sync, worker.member
            assert sync.sharing == member.sharing
            self._same(worker.breaker.snapshot, member.view)
            view = worker.breaker._view
            assert (view.state.value, view.enabled, view.forced is not None) == member.shown
            assert worker.breaker.retry_after == member.retry_after()

    def _same(self, snapshot: Any, head: Any) -> None:
        assert self.names.setdefault(head.generation, snapshot.id) == snapshot.id
        shown = {name: getattr(snapshot, name) for name in ("until", "force_until", "switch", "switch_until")}
        shown |= {"state": snapshot.state.value, "force": snapshot.force and snapshot.force.name}
        assert shown == {name: getattr(head, name) for name in shown}

    def _same_counts(self) -> None:
        for worker in self.workers:
            window = {"x": Window.of(worker.policy)}
            tallies = self.store.load(["x"], windows=window).records["x"].tallies
            assert _as_counter(total(tallies)) == self.world.store.totals(worker.policy)


def _as_counter(totals: Any) -> Counter[str]:
    counted = {"s": totals.successes, "f": totals.failures, "t": totals.timeouts, "r": totals.rejects}
    return Counter({kind: count for kind, count in counted.items() if count})


def _ends(error: Exception | None) -> None:
    if error is not None:
        raise error

"""One process's part in the shared state: push counts, follow transitions, lose the store and find it back.

A call on a closed circuit touches nothing here but a deque of its own circuit. Three daemon threads serve a process:

* the *beat* drains those deques, sends all breakers' counts in one round trip, opens the half-open door when its time
  has come, and finds a lost store back;
* the *ear* follows the stream of transitions, and does nothing else, so that no push delays the news;
* the *courier* carries what a call has to tell at once (a failure, a trial's lease and outcome), so that the call waits
  at most PATIENCE, whatever look-up, connection or store hangs, and an event loop never waits at all.

While the shared store is away each process goes on alone over its memory store, with the same machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from breaker.engine import events, machine
from breaker.engine.courier import Courier, arrival
from breaker.engine.ear import Ear
from breaker.engine.events import Labels, complain
from breaker.engine.haste import haste, leisure
from breaker.engine.judge import Judge
from breaker.engine.ledger import Counted
from breaker.engine.link import Link
from breaker.engine.lost_acts import LostActs
from breaker.engine.machine import Snapshot, State
from breaker.engine.policy import Policy
from breaker.engine.stores.base import (
    LEASE_MS,
    Pushed,
    Registration,
    Store,
    StoreError,
    Window,
    Write,
)
from breaker.engine.trials import Trials
from breaker.engine.window import Tally, total

PATIENCE = 0.1
"""Seconds that a call waits for the shared store, at most."""
BEAT = 0.1
"""Seconds between pushes while there is something to push."""
IDLE_BEAT = 0.25
"""Seconds between looks at the deques when nothing was there: what an unsent count waits at most."""
HEARTBEAT = 1.0
"""Seconds between pushes that only say that this process lives."""
STALE = 1.0
"""Seconds without a beat after which a call starts the threads anew."""
STUCK = 2.0
"""Seconds of one job of the courier after which the store counts as hanging. (Its own timeouts come before, but for a
look-up of its name.)"""
GOOD_BEATS = 3
"""Beats that a store which was lost must answer before it is followed again."""
RETRY = 0.25
"""Seconds between looks for a store that does not answer."""
REGISTER = 60.0
"""Seconds between registrations of this process's breakers."""
TICK_MS = 5_000

T = TypeVar("T")


class Circuit(Counted, Protocol):
    """What the beat needs of a circuit."""

    labels: Labels
    snapshot: Snapshot
    seen_open_at: float
    last_errors: deque[str]

    def follow(self, snapshot: Snapshot) -> None: ...

    def tell_change(self, before: Snapshot) -> None: ...

    def after_fork(self) -> None: ...


class Sync:
    """One process's connection to what all share. `shared` None: this process is alone by choice."""

    def __init__(
        self,
        shared: Store | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        threads: bool = True,
        tell: Callable[[Any], None] = lambda event: None,
        wants_success: Callable[[], bool] = lambda: False,
        on_lost_data: Callable[[Sequence[str]], None] = lambda names: None,
        on_start: Callable[[], None] = lambda: None,
        bind: Callable[[Callable[[], Any]], Callable[[], Any]] = lambda work: work,
    ) -> None:
        """`bind`: the courier's, which see."""
        self.shared = shared
        self._tell = tell
        self.verbose = False
        """Whether somebody wants to hear of each success; asked at each beat, because it costs a call some time."""
        self._wants_success = wants_success
        self.on_lost_data = on_lost_data
        self._on_start = on_start
        """Called whenever the threads of this process are started; in a forked child again."""
        self._bind = bind
        self.monotonic = monotonic
        self.has_threads = threads
        self.circuits: dict[str, Circuit] = {}
        self._wall_offset = int(wall() * 1000) - int(monotonic() * 1000)
        self._start_afresh()
        _ALL.add(self)

    def _start_afresh(self) -> None:
        """The state of a process that has just begun: at the start, and in a forked child."""
        self.process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.trials = Trials(self)
        self.judge = Judge(self)
        before = getattr(self, "link", None)
        self.link = Link(
            self.shared,
            process=self.process,
            offset=before.offset if before else self._wall_offset,
            monotonic=self.monotonic,
            circuits=self.circuits.values,
            renewals=self.trials.renewals,
            followed=lambda: self.followed,
        )
        self.link.longest_window_ms = before.longest_window_ms if before else self.link.longest_window_ms
        self.local = self.link.local
        self.local.adopt(self._snapshots())
        self.sharing = False
        self.beat_at = float("-inf")
        self._good_beats = 0
        self._next_try = float("-inf")
        self._lost_at: float | None = None
        self.lost_reason = ""
        self._last_shared: dict[str, Snapshot] = {}
        self._followed: set[str] = set()
        self._restless = {name for name, snapshot in self._snapshots().items() if snapshot.ends()}
        self._epoch = ""
        self._newest = (0, "")
        """Number and rev of the newest write that was followed."""
        self._other_past = False
        self._seq = self._seq_pushed = 0
        self.ear = Ear(self)
        self._registered_at = self._ticked_at = float("-inf")
        self._mode = threading.RLock()
        self._starting = threading.Lock()
        self.courier = Courier(thread=self.has_threads, monotonic=self.monotonic, bind=self._bind)
        self._beating: threading.Thread | None = None
        self._first_contact = threading.Event()
        self._wake = threading.Event()
        self.lost_acts = LostActs(
            lambda names: self.on_lost_data(names), monotonic=self.monotonic, thread=self.has_threads
        )
        self.joined = threading.Event()
        """Set while the shared state is followed."""
        self.closed = False

    @property
    def followed(self) -> int:
        """The number of the newest write that this process knows, be it of a circuit that only others have made."""
        return max(self._seq, self._newest[0])

    def tell(self, event: Any) -> None:
        """Give an event to whoever listens; what that raises harms nothing."""
        try:
            with self.aside():
                self._tell(event)
        except Exception:
            complain("a breaker's listener failed")

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Around listeners, whose time is neither for haste nor the store's doing."""
        with leisure(), self.courier.aside():
            yield

    # -- threads, forks, clock -------------------------------------------------------------------------------------

    def now(self) -> int:
        """Milliseconds on the shared store's clock, as far as this process knows it."""
        return self.link.now()

    @property
    def started(self) -> bool:
        return self._beating is not None

    def revive(self, *, patience: float | None = None) -> None:
        """Start the threads, or start them anew; the first time, wait a moment for the shared state."""
        if not self.has_threads:
            self.beat_at = self.monotonic()
            return
        with self._starting:
            if self.monotonic() - self.beat_at <= STALE or self.closed:
                return
            # A beat that lives but is late (a starved machine) must not make every call look again.
            self.beat_at = self.monotonic()
            alive = self._beating is not None and self._beating.is_alive()
            try:
                self.courier.start()
                if self.shared is not None:
                    self.ear.start()
                if not alive:
                    beating = threading.Thread(target=self._beat_for_ever, name="breaker-beat", daemon=True)
                    beating.start()
                    self._beating = beating
                    self._on_start()
            except RuntimeError as error:  # no more threads to be had: guard alone until there are
                self.lose(f"no background thread: {error}")
                return
        if self.shared is not None and not alive:
            self._first_contact.wait(PATIENCE if patience is None else patience)

    def after_fork(self) -> None:
        """In the child: the parent keeps its threads, its counts, its trials and its sockets."""
        self._start_afresh()
        if self.shared is not None:
            self.shared.renew_after_fork()
        for circuit in self.circuits.values():
            circuit.after_fork()

    def close(self) -> None:
        """Flush, best effort, at most PATIENCE; the threads end."""
        if self.closed:
            return
        if self.sharing and self.courier.alive:
            self.wait(self.courier.carry(self.link.flush))
        self.closed = True
        self._wake.set()
        self.courier.stop()

    def _beat_for_ever(self) -> None:
        while not self.closed:
            try:
                self.beat()
                self._rest()
            except BaseException:  # the thread must live, and not spin
                complain("breaker beat failed")
                time.sleep(HEARTBEAT)

    def _rest(self) -> None:
        """Until the next beat is due; who calls for counts meanwhile is answered."""
        left = self.beat_at + self._pause() - self.monotonic()
        while self._wake.wait(max(0.0, left)) and not self.closed:
            self._wake.clear()
            self._answer()
            left = self.beat_at + self._pause() - self.monotonic()
            if left <= 0:  # who calls ever so often must not keep the beat from its work
                break

    def _pause(self) -> float:
        """Seconds until the next beat: sooner when a circuit changes by itself before."""
        idle = self.sharing and not self.link.owing
        pause = IDLE_BEAT if idle else BEAT
        now = self.now()
        ends = [end - now for name in list(self._restless) for end in self.circuits[name].snapshot.ends()]
        return min(pause, min((end for end in ends if end > 0), default=1_000_000) / 1000 + 0.002)

    def wait(self, future: Future[T]) -> T | None:
        """What the courier brings; None when it did not in time.

        Being late is not being lost: a process short of CPU is late too. But nobody else waits for a late courier, and
        one that has been at a job for STUCK has a store that hangs.
        """
        with contextlib.suppress(TimeoutError):
            future.exception(0 if self.courier.late else PATIENCE)
        return self._brought(future)

    async def wait_async(self, future: Future[T]) -> T | None:
        """The same, while the event loop goes on."""
        await arrival(future, seconds=0 if self.courier.late else PATIENCE)
        return self._brought(future)

    def _brought(self, future: Future[T]) -> T | None:
        try:
            if future.done():
                return future.result()
            self.courier.miss(future)
            if self.courier.busy_for() >= STUCK:
                self.lose(f"no answer within {STUCK:g} s")
        except StoreError as error:
            self.lose(str(error))
        except Exception:  # a fault of ours must not fail the call
            complain("breaker courier failed")
        return None

    # -- membership ------------------------------------------------------------------------------------------------

    def add(self, circuit: Circuit) -> None:
        """Take a circuit in; while the shared state is followed, wait a moment for what it says of this one."""
        self.circuits[circuit.name] = circuit
        self.link.longest_window_ms = max(self.link.longest_window_ms, Window.of(circuit.policy).length_ms)
        self.local.adopt({circuit.name: circuit.snapshot})
        if self.sharing:
            with contextlib.suppress(StoreError, TimeoutError):  # the beat sees to it otherwise
                self.courier.carry(lambda: self._enter([circuit])).result(PATIENCE)

    def _snapshots(self) -> dict[str, Snapshot]:
        return {circuit.name: circuit.snapshot for circuit in list(self.circuits.values())}

    def _enter(self, circuits: Iterable[Circuit]) -> None:
        """Make circuits known, and follow what the store holds of them."""
        for name, snapshot in self._introduce(circuits).items():
            self._follow(name, snapshot)

    def _introduce(self, circuits: Iterable[Circuit]) -> dict[str, Snapshot]:
        """Register circuits and seed those that the store has not; what it then holds of them.

        Where it has lost its data, a process that was just born may have come first: what that one made of a circuit
        gives way to what this one knows.
        """
        assert self.shared is not None
        entering = {circuit.name: circuit for circuit in circuits}
        if not entering:
            return {}
        self.shared.register([_registration(circuit) for circuit in entering.values()])
        loaded = self.shared.load(list(entering))
        records, emptied = loaded.records, bool(self._epoch) and loaded.epoch != self._epoch
        missing = [
            name
            for name, record in records.items()
            if record.snapshot is None or (emptied and record.snapshot.pristine and not self._known(name).pristine)
        ]
        if missing:
            for name in missing:
                self._seed(entering[name], over=records[name].snapshot)
            self.lost_acts.of(missing)
            records = self.shared.load(list(entering)).records
        return {name: record.snapshot for name, record in records.items() if record.snapshot is not None}

    def _known(self, name: str) -> Snapshot:
        """What the shared store last said of a circuit, or what this process made of it."""
        return self._last_shared.get(name) or self.circuits[name].snapshot

    def _seed(self, circuit: Circuit, over: Snapshot | None) -> None:
        assert self.shared is not None
        seed, expected = self._known(circuit.name), over.rev if over else None
        now = self.now()
        under_word = seed.force is not None or seed.switch is False
        if seed.state is State.HALF_OPEN and not under_word:  # which holds it still, and ends CLOSED
            self._seed_shut(circuit, seed, expected)
            return
        if seed.state is State.OPEN:  # another server's clock: what is left of the wait, never more than a whole one
            left = max(0, min(seed.until - now, _reset_ms(circuit.policy)))
            seed = dataclasses.replace(seed, since=now + left - (seed.until - seed.since), until=now + left)
        self.shared.write(Write(name=circuit.name, expected=expected, after=seed, deadline=now + 1000))

    def _seed_shut(self, circuit: Circuit, seed: Snapshot, expected: str | None) -> None:
        """Half open, but its leases went with the data, and a trial may be under way: the next one comes as after the
        death of a holder, a lease later."""
        assert self.shared is not None
        due = machine.Transition(
            id=machine.new_generation(),
            before=State.HALF_OPEN,
            after=State.OPEN,
            reset_ms=LEASE_MS,
            why={"trial": "lost"},
        )
        after = machine.apply(seed, due, self.now())
        write = Write(
            name=circuit.name,
            expected=expected,
            after=after,
            event=_event(due, after.since - seed.since),
            deadline=self.now() + 1000,
        )
        if self.shared.write(write).won:
            self._tell_transition(circuit, due, after)

    # -- the beat --------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Push what was counted, and make the transitions that time alone brings."""
        self.beat_at = self.monotonic()
        self.verbose = self._wants_success()
        self.link.drain()
        self.link.keep()
        self._turn_by_time()
        if not self.sharing:
            self.link.forget_old()
        if self.shared is not None:
            try:
                if self.sharing:
                    self._beat_shared()
                elif self.beat_at >= self._next_try:
                    self._try_to_join()
            except StoreError as error:
                self._good_beats = 0
                self._next_try = self.monotonic() + RETRY
                self.lose(str(error))
        self._first_contact.set()
        self.lost_acts.seek()

    def _beat_shared(self) -> None:
        assert self.shared is not None
        now = self.monotonic()
        if now - self._registered_at >= REGISTER:
            self._enter(list(self.circuits.values()))  # also seeds a circuit whose key alone was lost
            self._registered_at = now
        if strangers := self.circuits.keys() - self._followed:
            self._enter([self.circuits[name] for name in strangers])
        self.trials.forget_overdue()
        if self._other_past or self.link.owing or self.trials or now - self.link.pushed_at >= HEARTBEAT:
            self._catch_up(self.flush())
        if self.verbose and now - self._ticked_at >= TICK_MS / 1000:
            self._ticked_at = now
            if self.shared.claim("tick", milliseconds=TICK_MS - 100):
                self.tell(events.Tick())

    def flush(
        self,
        *,
        answers: Sequence[str] = (),
        wants: Mapping[str, Window] | None = None,
        only: Iterable[Circuit] | None = None,
    ) -> Pushed:
        """As the link does, and notice where the answer shows that the store was emptied or has gone back in time: what
        it numbers lower may then be newer, so that the next beat takes all anew. Raises StoreError."""
        epoch, heard = self._epoch, max(self._seq, self._newest[0])  # before the push: the ear may be ahead of it
        pushed = self.link.flush(answers=answers, wants=wants, only=only)
        if pushed.epoch != epoch or pushed.seq < heard:
            self._other_past = True
        return pushed

    def _catch_up(self, pushed: Pushed) -> None:
        """Compare what the store says it has with what was heard since it said so the last time."""
        if self._other_past:
            self._recover(pushed.epoch)
        elif self._seq < self._seq_pushed:
            self._pull()
        self._seq_pushed = pushed.seq

    def _recover(self, epoch: str) -> None:
        """The store was emptied or has gone back in time: give it what it lost, take what it has."""
        assert self.shared is not None
        self.ear.set(self.shared.cursor())
        self._newest = (0, "")
        self._followed.clear()
        self._enter(list(self.circuits.values()))
        self.lost_acts.of(self.circuits)
        self._epoch = epoch
        self._pull()
        self._other_past = False

    def _pull(self) -> None:
        """Take every circuit as the store has it."""
        assert self.shared is not None
        loaded = self.shared.load(list(self.circuits))
        for name, record in loaded.records.items():
            if record.snapshot is not None:
                self._follow(name, record.snapshot)
        self._seq = loaded.seq

    def listen(self, seconds: float) -> None:
        """Take the shared store's news of the next so many seconds, and answer calls for counts."""
        if self.sharing:
            try:
                self.ear.listen(seconds)
            except StoreError as error:
                self.lose(str(error))
            self._answer()

    def hear(self, changed: Sequence[tuple[str, Snapshot]]) -> None:
        """Follow what others, or this process, made of circuits. Raises StoreError."""
        gap = False
        for name, snapshot in changed:
            number, rev = self._newest
            if snapshot.seq == number and snapshot.rev != rev:  # what was followed under that number was undone
                self._other_past = True
            gap = gap or snapshot.seq > self._seq + 1
            self._seq = max(self._seq, snapshot.seq)
            self._follow(name, snapshot)
        if gap:
            self._pull()

    def answer_soon(self) -> None:
        """Somebody calls for counts: the beat answers, for the ear must hear what comes of it."""
        self._wake.set()

    def _answer(self) -> None:
        """Answer the calls that wait, in one push; those that come meanwhile are for the next."""
        calls = [self.ear.calls.popleft() for _ in range(len(self.ear.calls))]
        if not calls:
            return
        names = {name for call in calls for name in call.names if name in self.circuits}
        try:
            with haste():
                self.flush(answers=[call.id for call in calls], only=[self.circuits[name] for name in names])
        except StoreError as error:
            self.lose(str(error))

    def _follow(self, name: str, snapshot: Snapshot) -> None:
        """Take what the shared store says of a circuit, unless it is older than what it said before."""
        with self._mode:
            circuit = self.circuits.get(name)
            if circuit is None or not self.sharing:
                return
            if name in self._followed and snapshot.seq <= circuit.snapshot.seq:
                return
            self._followed.add(name)
            self._last_shared[name] = snapshot
            self._newest = max(self._newest, (snapshot.seq, snapshot.rev))
            before = self._set(circuit, snapshot)
        circuit.tell_change(before)

    def _set(self, circuit: Circuit, snapshot: Snapshot) -> Snapshot:
        """Give a circuit its new snapshot; the one before."""
        before = circuit.snapshot
        circuit.follow(snapshot)
        (self._restless.add if snapshot.ends() else self._restless.discard)(circuit.name)
        if snapshot.ends():
            self._wake.set()  # the beat may sleep for longer than that
        return before

    def _turn_by_time(self) -> None:
        for name in list(self._restless):
            self.turn_by_time(self.circuits[name])

    def turn_by_time(self, circuit: Circuit) -> None:
        """Make the transition that is due without any call: the end of OPEN, or of what an operator said."""
        snapshot, now, alone = circuit.snapshot, self.now(), not self.sharing
        store = self.local if alone else None  # to the end, should the shared store be back meanwhile
        if snapshot.expired(now):
            lifted = machine.lift_expired(snapshot, now)
            was = machine.stood(circuit.policy, snapshot, snapshot.act_at)
            event = {"kind": "expired", **was, "to": lifted.state.value, "lasted": now - snapshot.act_at}
            switched = "enable" if lifted.enabled(circuit.policy, now) else "disable"
            event["operation"] = "release" if lifted.force is not snapshot.force else switched
            if self._write(store or self.holding, circuit, snapshot, lifted, event):
                self._tell_end(circuit, event, lifted)
        elif snapshot.state is State.OPEN:
            waited = int((self.monotonic() - circuit.seen_open_at) * 1000)
            if machine.decide(circuit.policy, snapshot, None, now, waited_ms=waited) is not None:
                totals = self.judge.whole_window(circuit, alone=alone)
                due = machine.decide(circuit.policy, snapshot, totals, now, waited_ms=waited)
                if due is not None:
                    not_before = 0 if now < snapshot.until else snapshot.until
                    self.make(circuit, snapshot, due, store=store, not_before=not_before)

    def _tell_end(self, circuit: Circuit, event: Mapping[str, Any], lifted: Snapshot) -> None:
        before, operation = State(event["from"]), event["operation"]
        said: dict[str, Any] = {"operation": operation, "before": before, "after": lifted.state, "at": lifted.since}
        self.tell(events.ActEnded(breaker=circuit.name, labels=circuit.labels, **said))

    # -- writes ----------------------------------------------------------------------------------------------------

    @property
    def holding(self) -> Store:
        """The store that holds now."""
        with self._mode:
            return self.shared if self.sharing and self.shared is not None else self.local

    def make(
        self,
        circuit: Circuit,
        snapshot: Snapshot,
        due: machine.Transition,
        *,
        store: Store | None = None,
        not_before: int = 0,
    ) -> bool:
        """Make a transition, judged by `snapshot` and the counts of `store` (by default the one that holds now), there,
        and tell it when it was ours.

        Where the shared store goes away over it, the same transition, id and all, is made here: should the shared
        store have made it all the same, both agree when it is back, and it was told once.
        """
        store = store or self.holding
        if self.shared is not None and store is self.local:
            due = dataclasses.replace(due, why={**due.why, "alone": True})
        if due.after is State.OPEN and circuit.last_errors:
            due = dataclasses.replace(due, why={**due.why, "errors": ", ".join(dict.fromkeys(circuit.last_errors))})
        after = machine.apply(snapshot, due, self.now())
        event = _event(due, after.since - snapshot.since)
        won = self._write(store, circuit, snapshot, after, event, not_before=not_before, token=due.token)
        if won is None:
            won = self._write(self.holding, circuit, snapshot, after, event, not_before=not_before, token=due.token)
        if won:
            self._tell_transition(circuit, due, after)
        return bool(won)

    def _tell_transition(self, circuit: Circuit, due: machine.Transition, after: Snapshot) -> None:
        self.tell(
            events.Transitioned(
                breaker=circuit.name,
                labels=circuit.labels,
                before=due.before,
                after=due.after,
                snapshot=after,
                why=after.why,
            )
        )

    def _write(
        self,
        store: Store,
        circuit: Circuit,
        before: Snapshot,
        after: Snapshot,
        event: Mapping[str, Any],
        *,
        not_before: int = 0,
        token: str | None = None,
    ) -> bool | None:
        """True: won. False: refused, and the circuit follows what stands. None: the shared store did not answer."""
        write = Write(
            name=circuit.name,
            expected=before.rev,
            after=after,
            event=event,
            deadline=self.now() + int(PATIENCE * 1000),
            not_before=not_before,
            token=token,
        )
        try:
            written = store.write(write)
            if written.current is None and store is not self.local:  # its key alone was lost
                self._enter([circuit])
                written = store.write(write)
        except StoreError as error:
            self.lose(str(error))
            return None
        if written.current is not None:
            self.take(circuit, written.current, store)
        return written.won and not (store is self.local and self.sharing)  # the shared store came back over it

    def take(self, circuit: Circuit, snapshot: Snapshot, store: Store) -> None:
        """Follow what a store answered, if that store still holds."""
        if store is not self.local:
            self._follow(circuit.name, snapshot)
            return
        with self._mode:
            if self.sharing or circuit.snapshot.rev == snapshot.rev:
                return
            before = self._set(circuit, snapshot)
        circuit.tell_change(before)

    def turn(self, circuit: Circuit, after: State) -> bool:
        """Bring a circuit to a state by hand (pybreaker's open, close and half_open); True when it is done."""

        def work() -> bool:
            snapshot = circuit.snapshot
            due = machine.Transition(
                id=machine.new_generation(),
                before=snapshot.state,
                after=after,
                reset_ms=_reset_ms(circuit.policy),
                why={"byHand": True},
            )
            return snapshot.state is after or self.make(circuit, snapshot, due)

        return bool(self.wait(self.courier.carry(work)) if self.sharing else work())

    # -- losing and finding the shared store -----------------------------------------------------------------------

    def lose(self, reason: str) -> None:
        """Go on alone, from what was last known."""
        with self._mode:
            if self._lost_at is not None or self.shared is None:
                return
            self._lost_at = self.monotonic()
            self.lost_reason = reason
            self._good_beats = 0
            if self.sharing:
                self.sharing = False
                self.joined.clear()
                self._followed.clear()
                self.local.adopt(self._snapshots(), self.trials.as_leases())
        self.tell(events.StoreLost(reason))

    def _try_to_join(self) -> None:
        """One beat of a store that is not followed: after enough good ones it is followed again."""
        assert self.shared is not None
        pushed = self.link.probe()
        self._good_beats += 1
        if self._good_beats >= GOOD_BEATS or self._lost_at is None:  # or the first, at the start
            self._join(pushed.epoch)

    def _join(self, epoch: str) -> None:
        """The shared store wins: what was decided alone is dropped, what was counted alone is sent."""
        assert self.shared is not None
        cursor = self.shared.cursor()
        alone = {name: (snapshot, self._last_shared.get(name)) for name, snapshot in self._snapshots().items()}
        counted = self.shared.load(list(alone), windows={name: Window.of(self.circuits[name].policy) for name in alone})
        found = self._introduce([self.circuits[name] for name in alone])
        if self._epoch and (epoch != self._epoch or counted.seq < self._seq):
            self.lost_acts.of(alone)
        self.ear.set(cursor)
        with self._mode:
            away = self.monotonic() - self._lost_at if self._lost_at is not None else None
            self.sharing, self._lost_at = True, None
            self._epoch, self._seq, self._seq_pushed = epoch, counted.seq, counted.seq
            self._registered_at = self.monotonic()
            self._newest, self._other_past = (0, ""), False
            self.joined.set()
            for name, snapshot in found.items():
                self._follow(name, snapshot)
        if away is not None:
            self.tell(events.StoreBack(away))
        for name, (snapshot, last_seen) in alone.items():
            self._offer(self.circuits[name], snapshot, last_seen, counted.records[name].tallies)
        # The failures behind what was decided alone are sent now, and no call may come to judge them again.
        moved = [name for name, (before, seen) in alone.items() if seen and before.id != seen.id]
        self.judge.rule_on([self.circuits[name] for name in moved])

    def _offer(self, circuit: Circuit, alone: Snapshot, last_seen: Snapshot | None, window: Sequence[Tally]) -> None:
        """An OPEN found alone is taken only if nobody has moved meanwhile, no operator has spoken, and the others
        cannot judge."""
        found = circuit.snapshot
        unmoved = last_seen is not None and found.id == last_seen.id
        mine = alone.state is State.OPEN and alone.id != found.id and alone.until > self.now()
        if not (mine and unmoved and found.state is State.CLOSED):
            return
        if machine.stands_still(circuit.policy, found, self.now()):
            return
        if total(window, generation=found.id).completed < circuit.policy.volume_threshold:
            due = machine.Transition(
                id=machine.new_generation(),
                before=State.CLOSED,
                after=State.OPEN,
                reset_ms=alone.until - self.now(),
                why={**alone.why, "alone": True},
            )
            self.make(circuit, found, due)


def _event(due: machine.Transition, lasted: int) -> dict[str, Any]:
    """A transition as the stream has it; `lasted` ms was the state before."""
    fromto = {"from": due.before.value, "to": due.after.value}
    return {"kind": "transition", **fromto, "lasted": max(0, lasted), "why": due.why}


def _registration(circuit: Circuit) -> Registration:
    return Registration(name=circuit.name, labels=circuit.labels.as_dict(), policy=circuit.policy)


def _reset_ms(policy: Policy) -> int:
    return int(policy.reset_timeout * 1000)


_ALL: weakref.WeakSet[Sync] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for sync in list(_ALL):
        try:
            sync.after_fork()
        except Exception:  # one that cannot be renewed must not keep the others from it
            complain("breaker state could not be renewed after a fork")


os.register_at_fork(after_in_child=_after_fork_in_child)

"""What each worker of the reference knows, and when it hears: straight lines again, one worker at a time.

A member hears of the circuit when it listens, when it writes, and when a beat of it has pushed; until then its view is
what it heard last. Alone, it goes on with a store of its own by the same rules.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from breaker.engine.policy import Policy
from breaker.engine.stores.base import StoreError
from tests.engine.model.reference import LEASE, LIVE, UNGUARDED, Count, Head, Store, fresh, newborn, too_many
from tests.engine.model.wires import Wire

NEVER = -(10**9)


class World:
    """The store that all share, and who is there."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self.store = Store(now)
        self.members: list[Member] = []
        self.told: list[tuple[str, ...]] = []
        self.seen: Counter[str] = Counter()
        """What happened that nobody tells."""

    def call_for_counts(self, who: str) -> None:
        """Who is awake answers at once; who is not, when it listens again."""
        self.store.call(who)
        for member in self.members:
            if member.awake:
                member.listen()


@dataclass
class Permit:
    generation: int
    token: int | None
    began: int
    placed: bool


class Member:
    def __init__(self, world: World, name: str, policy: Policy) -> None:
        self.world, self.name, self.policy, self.now = world, name, policy, world.now
        self.wire, self.local = Wire(world.store, world.now), Store(world.now)
        self.awake = True
        self.sharing = self.lost = self.followed = self.undone = self.joined_before = False
        self.seen: Head | None = None
        self.newest = (0, 0)
        """Number and version of the newest write heard of: another write of that number has undone it."""
        self.hand: list[tuple[int, str]] = []
        self.unsent: list[Count] = []
        self.inflight: list[tuple[int, list[Count]]] = []
        self.trials: dict[int, int] = {}
        self.calls = self.cursor = self.number = self.epoch = self.good = self.heard = self.said = 0
        self.busy_until = self.pushed_at = self.registered_at = self.next_try = NEVER
        self._take(newborn(self.now()))
        self.local.head = self.view

    # -- calls -----------------------------------------------------------------------------------------------------

    def admit(self) -> Permit | str:
        """A permit, or why not."""
        if (
            self.shown.state == "OPEN"
            and not self.sharing
            and self.retry_at is not None
            and self.now() >= self.retry_at
        ):
            self.turn_by_time()
        state, enabled, _ = self.shown
        if state == "OPEN" or (state == "HALF_OPEN" and self.now() < self.busy_until):
            return self._rejected(state.lower())
        if enabled and self.policy.capacity is not None and self.calls >= self.policy.capacity:
            return self._rejected("capacity")
        token = self._lease() if state == "HALF_OPEN" else None
        if state == "HALF_OPEN" and token is None:
            self.busy_until = self.now() + 250
            return self._rejected("half_open")
        if token is not None and self.policy.half_open_max_calls == 1:
            self.busy_until = self.now() + self._longest()
        placed = enabled and self.policy.capacity is not None
        self.calls += placed
        return Permit(self.view.generation if enabled else UNGUARDED, token, self.now(), placed)

    def settle(self, permit: Permit, kind: str | None) -> None:
        """`kind` s, f or t; None for a call that was cancelled."""
        self.calls -= permit.placed
        if kind is None:
            self._give_back(permit.token)
            return
        if self.now() - permit.began > self.policy.timeout * 1000:
            kind = "t"
        self.hand.append((permit.generation, kind))
        if permit.token is not None:
            self._settle_trial(permit.generation, permit.token, kind)
        elif kind != "s" and permit.generation == self.view.generation and self.shown == ("CLOSED", True, False):
            self._report()

    @property
    def retry_at(self) -> int | None:
        forced_open = self.shown.forced and self.view.force == "OPEN"
        return self.view.force_until if forced_open else self.view.until

    def retry_after(self) -> int:
        wait = self.policy.reset_timeout * 1000 if self.retry_at is None else self.retry_at - self.now()
        return max(1, -int(-wait // 1000))

    def _rejected(self, reason: str) -> str:
        self.hand.append((self.view.generation if self.shown.enabled else UNGUARDED, "r"))
        return reason

    # -- trials ----------------------------------------------------------------------------------------------------

    def _longest(self) -> int:
        return int(self.policy.timeout * 1000) + 1000

    def _lease(self) -> int | None:
        """Without the shared store, this worker's own lease."""
        if self.sharing:
            try:
                return self._leased(self.wire)
            except StoreError:
                self.lose()
        return self._leased(self.local)

    def _leased(self, store: Store | Wire) -> int | None:
        token, slots = fresh(), self.policy.half_open_max_calls
        deadline = self.now() + 100
        if not store.lease(self.view.generation, token, slots=slots, longest=self._longest(), deadline=deadline):
            return None
        self.trials[token] = self.now() + self._longest()
        return token

    def _settle_trial(self, generation: int, token: int, kind: str) -> None:
        """Only the holder of the current lease decides."""
        self.busy_until = NEVER
        self.drain()
        if self.sharing:
            try:
                self.flush()
            except StoreError:
                self.lose()
        view = self.view
        decides = view.generation == generation and view.state == "HALF_OPEN" and view.moves(self.policy, self.now())
        if decides and self._turn(view, "CLOSED" if kind == "s" else "OPEN", token=token):
            self.trials.pop(token, None)
        else:
            self._give_back(token)

    def _give_back(self, token: int | None) -> None:
        if token is None:
            return
        self.busy_until = NEVER
        self.trials.pop(token, None)
        self.local.release(token)
        if self.sharing:
            with contextlib.suppress(StoreError):  # the lease ends by itself
                self.wire.release(token)

    # -- failures --------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """A failure goes out at once with all that is counted here, and comes back with the cluster's totals."""
        if self.sharing:
            try:
                self.judge()
            except StoreError:
                self.lose()
        if not self.sharing:
            self.drain()
            if self._opens(self.local):
                self._open()

    def judge(self) -> None:
        self.flush()
        others = any(who != self.name and self.now() - at <= LIVE for who, at in self.world.store.heard_of.items())
        if others and self._opens(self.world.store):
            self.world.call_for_counts(self.name)
            self.world.seen["spared by the others' counts"] += not self._opens(self.world.store)
        if self._opens(self.world.store) and self._open() and others and self.sharing:
            self.world.call_for_counts(self.name)

    def _opens(self, store: Store) -> bool:
        view = self.view
        movable = view.state == "CLOSED" and view.moves(self.policy, self.now())
        return movable and too_many(self.policy, store.totals(self.policy, view.generation))

    def _open(self) -> bool:
        return self._turn(self.view, "OPEN")

    # -- transitions -----------------------------------------------------------------------------------------------

    def turn_by_time(self) -> None:
        """The end of OPEN, and of what an operator said."""
        view, now = self.view, self.now()
        if view.ended(now):
            if self._write(view, view.lifted(now)):
                self._tell("ActEnded")
        elif view.state == "OPEN" and view.moves(self.policy, now) and now >= view.until:
            self.drain()
            if self.sharing:
                try:
                    self.flush()
                except StoreError:
                    self.lose()
            self._turn(view, "HALF_OPEN")

    def _turn(self, before: Head, state: str, *, token: int | None = None, until: int | None = None) -> bool:
        """A transition over what was known; where the answer is lost, the very same one alone."""
        if state == "OPEN" and until is None:
            until = self.now() + int(self.policy.reset_timeout * 1000)
        after = before.turned(state, self.now(), until=until or 0)
        made = self._write(before, after, token=token)
        if made is None:
            stands = self.world.store.head
            self.world.seen["turned alone and by the store"] += stands is not None and stands.version == after.version
            made = self._write(before, after, token=token)
        if made:
            self._tell("Transitioned", before.state, state)
        return bool(made)

    def _write(self, before: Head, after: Head, *, token: int | None = None) -> bool | None:
        """True: made. False: refused, and what stands is heard of. None: not answered, so alone from now."""
        asked = {"deadline": self.now() + 100, "token": token}
        if not self.sharing:
            made, stands = self.local.write(before.version, after, **asked)
            if stands is not None and stands.version != self.view.version:
                self._take(stands)
            return made
        try:
            made, stands = self.wire.write(before.version, after, **asked)
            if stands is None:
                self._enter()
                made, stands = self.wire.write(before.version, after, **asked)
        except StoreError:
            self.lose()
            return None
        if stands is not None:
            self.follow(stands)
        return bool(made)

    def _tell(self, *what: str) -> None:
        self.world.told.append((self.name, *what))

    # -- operators and readers ---------------------------------------------------------------------------------------

    def act(self, action: str, for_ms: int | None) -> None:
        """Raises StoreError where no answer came, twice."""
        found, now = self.wire.load(), self.now()
        before = found or newborn(now)
        after = before.acted(action, None if for_ms is None else now + for_ms, now)
        asked = (found.version if found else None, after)
        try:
            _, stands = self.wire.write(*asked, deadline=now + 100)
        except StoreError:
            _, stands = self.wire.write(*asked, deadline=now + 100)
        self.follow(stands)

    def read(self) -> tuple[Counter[str], bool]:
        """All that is counted in the window, and whether that is the cluster's."""
        try:
            if self.sharing:
                self.flush()
            self.wire.load()
            return self.world.store.totals(self.policy), True
        except StoreError:
            self.lose()
        self.drain()
        return self.local.totals(self.policy), False

    # -- hearing and sending ---------------------------------------------------------------------------------------

    def _take(self, head: Head) -> None:
        if not hasattr(self, "view") or self.view.generation != head.generation:
            self.busy_until = NEVER
        self.view, self.shown = head, head.shown(self.policy, self.now())

    def follow(self, head: Head) -> None:
        """What the shared store says, unless it is older than what it said before."""
        if not self.sharing or (self.followed and head.seq <= self.view.seq):
            return
        self.followed = True
        self.seen = head
        self.newest = max(self.newest, (head.seq, head.version))
        self._take(head)

    def listen(self) -> None:
        if self.sharing:
            try:
                self._hear()
            except StoreError:
                self.lose()

    def _hear(self) -> None:
        number, version = self.newest
        writes, called, self.cursor = self.wire.news(self.cursor)
        if writes.get(number, version) != version:
            self.undone = True
        if writes:
            self.heard = max(self.heard, *writes)
            self.follow(self.world.store.head)
        if called - {self.name}:
            self.flush()

    def drain(self) -> None:
        """Outcomes get their place in the window when the worker takes them in."""
        width = self.policy.bucket_width_ms
        counts = [Count(width, self.now() // width, generation, kind) for generation, kind in self.hand]
        self.hand.clear()
        self.unsent += counts
        self.local.push(self.name, 0, (), self.trials)
        self.local.counts += counts

    def flush(self) -> None:
        self.drain()
        self.number += 1
        self.inflight.append((self.number, self.unsent))
        self.unsent = []
        while self.inflight:
            self._push(*self.inflight[0])
        store = self.world.store
        if store.epoch != self.epoch or store.seq < max(self.newest[0], self.heard):
            self.undone = True

    def _push(self, number: int, counts: list[Count]) -> None:
        self.wire.push(self.name, number, counts, [*self.trials])
        if self.inflight and self.inflight[0][0] == number:
            self.inflight.pop(0)
        self.pushed_at = self.now()

    def beat(self) -> None:
        self.drain()
        self.turn_by_time()
        try:
            if self.sharing:
                self._beat_shared()
            elif self.now() >= self.next_try:
                self._push(*self.inflight[0]) if self.inflight else self._push(self.number, [])
                self.good += 1
                if self.good >= 3 or not (self.joined_before or self.lost):
                    self._join()
        except StoreError:
            self.good, self.next_try = 0, self.now() + 250
            self.lose()

    def _beat_shared(self) -> None:
        if self.now() - self.registered_at >= 60_000:
            self._enter()
            self.registered_at = self.now()
        self.trials = {token: longest for token, longest in self.trials.items() if longest >= self.now()}
        if self.undone or self.unsent or self.inflight or self.trials or self.now() - self.pushed_at >= 1_000:
            self.flush()
            if self.undone:
                self.followed = False
                self.newest, self.cursor = (0, 0), self.world.store.newest
                self._enter()
                self.epoch, self.undone = self.world.store.epoch, False
                self.heard = self.world.store.seq
            elif self.heard < self.said:
                self.follow(self.wire.load())
                self.heard = self.world.store.seq
            self.said = self.world.store.seq

    def _enter(self) -> None:
        self.follow(self._introduced())

    def _introduced(self) -> Head:
        """What the store holds, which is what this worker knows where it holds nothing, or what a newborn one made of a
        store that was emptied."""
        head, known = self.wire.load(), self.seen or self.view
        emptied = self.joined_before and self.epoch != self.world.store.epoch
        if head is None or (emptied and head.pristine and not known.pristine):
            self.world.seen["a newborn's seed replaced"] += head is not None
            self._seed(known, over=head)
            head = self.wire.load()
        return head

    def _seed(self, seed: Head, over: Head | None) -> None:
        """OPEN for what is left; half open, a lease later: the leases of trials that may be under way were lost too."""
        now, known = self.now(), seed
        if seed.state == "OPEN":
            left = min(max(0, seed.until - now), int(self.policy.reset_timeout * 1000))
            seed = replace(seed, since=now + left - (seed.until - seed.since), until=now + left)
        if seed.state == "HALF_OPEN" and seed.force is None and seed.switch is not False:
            seed = seed.turned("OPEN", now, until=now + LEASE)
        made, _ = self.wire.write(over and over.version, seed, deadline=now + 1000)
        if made and seed.generation != known.generation:
            self._tell("Transitioned", "HALF_OPEN", "OPEN")

    # -- losing and finding the shared store -----------------------------------------------------------------------

    def lose(self) -> None:
        """Alone, from what was last known."""
        if self.lost:
            return
        self.lost, self.good = True, 0
        if self.sharing:
            self.sharing = self.followed = False
            self.local.head = self.view
            self.local.leases = {
                token: (min(self.now() + 2000, longest), longest) for token, longest in self.trials.items()
            }
        self._tell("StoreLost")

    def _join(self) -> None:
        """The shared store wins; an OPEN found alone is offered where nobody moved and the others cannot judge."""
        alone, seen, was_lost = self.view, self.seen, self.lost
        self.cursor = self.world.store.newest
        self.heard = self.said = self.world.store.seq
        found = self._introduced()
        others = self.world.store.totals(self.policy, found.generation)
        self.registered_at = self.now()
        self.sharing, self.joined_before, self.lost = True, True, False
        self.epoch, self.newest, self.undone = self.world.store.epoch, (0, 0), False
        self.follow(found)
        if was_lost:
            self._tell("StoreBack")
        unmoved = seen is not None and seen.generation == found.generation
        mine = alone.state == "OPEN" and alone.generation != found.generation and alone.until > self.now()
        closed = found.state == "CLOSED" and found.moves(self.policy, self.now())
        few = others["s"] + others["f"] + others["t"] < self.policy.volume_threshold
        if mine and unmoved and closed and few:
            self._turn(found, "OPEN", until=alone.until)
        if seen is not None and alone.generation != seen.generation:
            self.judge()

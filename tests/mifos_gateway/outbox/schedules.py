"""Random schedules of callers, runners, operators and a Fineract, over the real tables; what is promised holds after
every step.

Callers and runners are cut where they may die: between admission and call, between lease, attempt and settling. What a
request is, is what its body says (`ident`): the effects are told apart by it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

from django.db import OperationalError
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from breaker.registry import registry
from mifos_gateway import guard, idempotency, targets
from mifos_gateway.errors import GatewayError
from mifos_gateway.models import Consumer, DeferredAttempt, DeferredRequest, UsedKey
from mifos_gateway.outbox import clock, delivery, desk, intake
from mifos_gateway.outbox.delivery import Attempt, Leased
from mifos_gateway.outbox.desk import NotPossible
from mifos_gateway.outbox.preferences import Preference
from mifos_gateway.refusals import DeferredAhead, IdempotencyKeyReused
from tests.mifos_gateway.outbox.fineract import DEEDS, FATES, Breaker, Deed, Fate, Fineract

START = datetime(2026, 11, 28, 9, tzinfo=UTC)
DAY = 86_400
ROUTES = {"POST clients": 3600, "POST loans/*": 600, "POST savingsaccounts/*": 29 * DAY}
PATHS = st.sampled_from(
    [
        *("loans/5/transactions?command=repayment", "loans/05?command=disburse", "clients"),
        *("loans/6/transactions?command=repayment", "savingsaccounts/5/transactions?command=deposit", "notes/5"),
    ]
)
CONSUMERS = st.sampled_from(["shop", "shop", "bank", None])
PREFERENCES = st.sampled_from([Preference(True), Preference(True), Preference(), Preference(True, True)])
KEYS = st.sampled_from([None, None, "a", "b"])
DEED = st.one_of(st.just("done"), st.sampled_from(DEEDS))
FATE = st.one_of(st.just("answered"), st.sampled_from(FATES))
AWAY: Any = st.sampled_from(["rejected", "lost", "comes late", "not sent", "never came"])
WHICH = st.integers(0, 5)
UNFINISHED = ("queued", "replaying", "rejected", "unknown")


def profile(*, schedules: int, derandomize: bool = False) -> settings:
    """How many schedules of up to 40 steps; nothing is kept on disk, and no run is too slow."""
    return settings(
        max_examples=schedules,
        stateful_step_count=40,
        derandomize=derandomize,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


@dataclass
class Accepted:
    """What the caller knows of a request that got a 202."""

    pk: int
    ident: str
    order: str


@dataclass
class Direct:
    """A call that was let through to MIFOS, and is not there yet."""

    call: guard.Call
    ident: str


ACTS: dict[str, Callable[[Schedule, DeferredRequest], None]] = {
    "retry": lambda schedule, row: schedule._retries(row),
    "cancel": lambda schedule, row: schedule._cancels(row),
    "release": lambda schedule, row: schedule._releases(row),
    "release all": lambda schedule, row: schedule._deals_with_bad_ends(row),
    "retry with a new key": lambda schedule, row: schedule._retries(row, True),
    "retry with the same key": lambda schedule, row: schedule._retries(row, False),
    "revoke or restore": lambda schedule, row: schedule._revokes_or_restores(row),
    "change a setting": lambda schedule, row: schedule._changes_a_setting(row),
}


class Schedule(RuleBasedStateMachine):
    seen: ClassVar[Counter[str]] = Counter()
    steps: ClassVar[int] = 0

    @initialize(raw=st.booleans(), pass_by=st.sampled_from([False, False, True]))
    def begin(self, raw: bool, pass_by: bool) -> None:
        for model in (DeferredAttempt, DeferredRequest, UsedKey):
            model.objects.all().delete()
        for name in ("shop", "bank"):
            Consumer.objects.update_or_create(name=name, defaults={"revoked_at": None})
        self.seconds = 0.0
        self.mifos = Fineract(self.now, on_effect=self._has_effect)
        breakers: Any = {key: Breaker(name, self.mifos) for key, name in guard.NAMES.items()}
        guarded = guard.Guard(self.mifos, breakers=breakers, places=4)
        self.raw, self.passes_by = raw, pass_by
        self.patches = [
            mock.patch.object(clock, "now", self.now),
            mock.patch.object(delivery, "time", SimpleNamespace(monotonic=lambda: self.seconds)),
            mock.patch.object(guard, "current", return_value=guarded),
        ]
        for patch in self.patches:
            patch.start()
        self.overridden: Any = None
        self._configure()
        self.directs: list[Direct] = []
        self.leased: list[Leased] = []
        self.made: list[tuple[Leased, Attempt]] = []
        self.accepted: dict[str, Accepted] = {}
        self.of_ident: dict[str, Accepted] = {}
        self.excused: set[str] = set()
        """Of them somebody has said that MIFOS is to get a new key though it perhaps has them."""
        self.given_up: set[str] = set()
        """Those behind them were let go on by somebody, or by time."""
        self.sent: set[int] = set()
        """Which runners have tried. An effect of others is of a call that came before, perhaps in another order."""
        self.pool = self.own_keys = 0
        self.sending: Leased | None = None
        self.idents: dict[int, str] = {}
        self.restless = 0

    def teardown(self) -> None:
        if not hasattr(self, "patches"):
            return
        self.overridden.disable()
        for patch in self.patches:
            patch.stop()
        self.seen.update(self.mifos.seen)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def _configure(self) -> None:
        if self.overridden is not None:
            self.overridden.disable()
        more = {"DEFERRED_ROUTES": ROUTES, "RAW_IDEMPOTENCY_KEYS": self.raw, "DEFERRED_LET_DIRECT_PASS": self.passes_by}
        self.overridden = override_settings(GATEWAY=more)
        self.overridden.enable()

    # -- callers -------------------------------------------------------------------------------------------------------

    @rule(
        path=PATHS,
        consumer=CONSUMERS,
        client=st.sampled_from(["maker", "maker", "checker"]),
        key=KEYS,
        preference=PREFERENCES,
        own_order=st.sampled_from([None, None, None, "family"]),
        other_body=st.sampled_from([False] * 7 + [True]),
        deed=DEED,
        fate=FATE,
        goes_on=st.sampled_from([True, True, True, False]),
    )
    def calls(
        self,
        path: str,
        consumer: str | None,
        client: str,
        key: str | None,
        preference: Preference,
        own_order: str | None,
        other_body: bool,
        deed: Deed,
        fate: Fate,
        goes_on: bool,
    ) -> None:
        """A write comes in: it is accepted, refused, or let through to MIFOS, where it goes unless it stalls."""
        call, ident = self._write(path, consumer, client, key, preference, own_order, other_body)
        assert call.write is not None
        try:
            answer = intake.admit(call)
        except DeferredAhead:
            self.seen["409 ahead"] += 1
            assert call.write.deferred is None
            return
        except IdempotencyKeyReused:
            self.seen["422"] += 1
            return
        if answer is not None:
            self._told(answer, ident)
            return
        if call.write.deferred is not None or not self.passes_by:
            assert not self._ahead(call.write.order), "let through though others are ahead"
        self.directs.append(Direct(call, ident))
        if goes_on:
            self.call_goes_on(-1, deed, fate)

    @rule(
        path=PATHS,
        consumer=CONSUMERS,
        key=KEYS,
        ends=st.lists(st.tuples(DEED, AWAY), min_size=1, max_size=2),
        at_once=st.booleans(),
    )
    def accepts(
        self, path: str, consumer: str | None, key: str | None, ends: list[tuple[Deed, Fate]], at_once: bool
    ) -> None:
        """Without a call, or while MIFOS is away."""
        for deed, fate in ends:
            self.calls(path, consumer, "maker", key, Preference(True, at_once), None, False, deed, fate, True)

    @precondition(lambda self: self.directs)
    @rule(which=WHICH, deed=DEED, fate=FATE)
    def call_goes_on(self, which: int, deed: Deed, fate: Fate) -> None:
        one = self.directs.pop(which % len(self.directs))
        self.mifos.deed, self.mifos.fate = deed, fate
        try:
            answer = guard.current().call(one.call)
        except GatewayError:
            return
        if getattr(answer, "provenance", "") == "deferred":
            self.seen["202 after a call"] += 1
            self._told(answer, one.ident)

    def _write(
        self,
        target: str,
        consumer: str | None,
        client: str,
        key: str | None,
        preference: Preference,
        own_order: str | None,
        other_body: bool,
    ) -> tuple[guard.Call, str]:
        """As views and services make it."""
        about = f"{consumer}|{client}|{target}"
        if key is None:
            self.own_keys += 1
            ident = f"call {self.own_keys}"
        else:  # callers use a key for a week at most, and one for each MIFOS, to which a raw one goes as it is
            key = f"{key}-{self.pool}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"
            ident = f"{key}{' changed' if other_body else ''}"
        parsed = targets.parse(target)
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = idempotency.key_for_mifos(
                key, consumer=consumer or "", client=client, method="POST", target=parsed, raw=self.raw
            )
        user: Any = client
        call = guard.Call(user, "POST", target, headers, json.dumps({"ident": ident}).encode())
        write = intake.write_of(
            "POST", parsed, client=client, consumer=consumer, key=key, order_key=own_order, preference=preference
        )
        return intake.with_write(call, write), ident

    def _told(self, answer: Any, ident: str) -> None:
        """A 202 is of this very request, which is in the table."""
        assert answer.status_code == 202
        told = json.loads(answer.content)
        row = DeferredRequest.objects.get(uid=told["id"])
        assert self._ident(row) == ident
        one = Accepted(row.pk, ident, row.order)
        if told["id"] not in self.accepted:
            self.seen["202"] += 1
            self.seen["202 perhaps sent"] += row.perhaps_sent
        self.accepted.setdefault(told["id"], one)
        self.of_ident.setdefault(ident, one)

    # -- runners -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.accepted)
    @rule(limit=st.integers(1, 3))
    def leases(self, limit: int) -> None:
        for leased in delivery.lease(self.now(), limit=limit, breakers=[*registry.circuits]):
            self.seen["leased"] += 1
            row = DeferredRequest.objects.select_related("consumer").get(pk=leased.row.pk)
            assert row.consumer is None or row.consumer.revoked_at is None, "sent for somebody who was revoked"
            assert not self._ahead(row.order, before=row.pk), "leased though others are ahead"
            self.leased.append(leased)

    @precondition(lambda self: self.leased)
    @rule(which=WHICH, deed=DEED, fate=FATE, takes=st.sampled_from([0, 0, 1, 30]))
    def attempts(self, which: int, deed: Deed, fate: Fate, takes: float) -> None:
        leased = self.leased.pop(which % len(self.leased))
        self.mifos.deed, self.mifos.fate, self.sending = deed, fate, leased
        self.sent.add(leased.row.pk)
        try:
            with mock.patch.object(self.mifos, "send", self._checked_send):
                self.made.append((leased, delivery.attempt(leased)))
        finally:
            self.sending = None
        self.seconds += takes

    def _checked_send(self, *args: Any, **more: Any) -> Any:
        """Whoever sends holds the lease until the call is over; or has lost it to nobody yet."""
        assert self.sending is not None
        row = DeferredRequest.objects.get(pk=self.sending.row.pk)
        assert (row.status, row.lease) == ("replaying", self.sending.token), "sent without the lease"
        assert row.lease_until is not None
        assert row.lease_until >= self.now() + timedelta(seconds=more["timeout"]), "the lease may end before the call"
        return Fineract.send(self.mifos, *args, **more)

    @precondition(lambda self: self.made)
    @rule(which=WHICH, database=st.sampled_from(["fails", "well", "done, unknown", "well"]))
    def settles(self, which: int, database: str) -> None:
        """As often as the database wants; what it fails at is tried again, or its runner dies meanwhile."""
        leased, made = self.made[which % len(self.made)]
        if database == "fails":
            with mock.patch.object(delivery, "_note", side_effect=OperationalError):
                try:
                    delivery.settle(leased, made)
                except OperationalError:
                    self.seen["settling failed"] += 1
                    return
        is_ours = delivery.settle(leased, made)
        self.seen[f"settled: {made.verdict.outcome}" if is_ours else "settled too late"] += 1
        if database == "done, unknown":
            assert not delivery.settle(leased, made)
        self.made.pop(which % len(self.made))

    @precondition(lambda self: self.accepted)
    @rule(deed=DEED, fate=FATE, then=st.lists(st.tuples(DEED, FATE), min_size=1, max_size=3))
    def answer_comes_too_late(self, deed: Deed, fate: Fate, then: list[tuple[Deed, Fate]]) -> None:
        """Its lease has run out, and others are at it."""
        count = len(self.leased)
        self.leases(1)
        if len(self.leased) == count:
            return
        self.attempts(count, deed, fate, 0)
        late = self.made[-1]
        self.seconds += 61
        self.delivers(then, 61)
        self.settles(self.made.index(late), "well")

    @precondition(lambda self: self.leased or self.made or self.directs)
    @rule(which=WHICH, who=WHICH)
    def somebody_dies(self, which: int, who: int) -> None:
        """A caller that was let through, a runner before it sends, or one that has its answer."""
        busy: list[list[Any]] = [ones for ones in (self.made, self.leased, self.directs) if ones]
        lost = busy[who % len(busy)]
        lost.pop(which % len(lost))
        self.seen["somebody died"] += 1

    @precondition(lambda self: self.accepted)
    @rule()
    def tidies(self) -> None:
        self.seen["recovered"] += delivery.recover(self.now())
        late = DeferredRequest.objects.filter(status="queued", perhaps_sent=False, expires_at__lte=self.now())
        self.given_up |= {self._ident(row) for row in late}
        delivery.expire(self.now())

    @precondition(lambda self: self.accepted)
    @rule(which=WHICH)
    def nobody_sends_in_time(self, which: int) -> None:
        """And then somebody wants one of them after all."""
        self.time_passes(3600)
        self.tidies()
        self.operator(which, "retry")

    @precondition(lambda self: self.accepted)
    @rule(ends=st.lists(st.tuples(DEED, FATE), min_size=1, max_size=6), pause=st.sampled_from([61, 1, 0, 16]))
    def delivers(self, ends: list[tuple[Deed, Fate]], pause: float) -> None:
        """What runners do when nothing comes between."""
        for deed, fate in ends:
            self.tidies()
            count = len(self.leased)
            self.leases(2)
            while len(self.leased) > count:
                self.attempts(count, deed, fate, 0)
                self.settles(len(self.made) - 1, "well")
            self.seconds += pause

    # -- time and MIFOS ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.accepted)
    @rule(seconds=st.sampled_from([1, 1, 5, 15, 45, 61, 61, 600, 3600, 2 * DAY, 8 * DAY, 31 * DAY]))
    def time_passes(self, seconds: float) -> None:
        """No runner and no caller lives for days; and what stands in a queue of MIFOS is done in a minute."""
        if seconds > 61:
            self.mifos.works_all_off()
        self.seconds += seconds
        if seconds < DAY:
            return
        self.leased.clear()
        self.made.clear()
        self._new_keys()
        self.mifos.purges()
        self._purges()

    def _new_keys(self) -> None:
        """Of callers who begin afresh."""
        self.pool += 1
        self.directs.clear()

    def _purges(self) -> None:
        ended_before = self.now() - timedelta(days=30)
        for uid, one in list(self.accepted.items()):
            row = DeferredRequest.objects.get(pk=one.pk)
            holds_up = row.order and row.status in UNFINISHED and row.released_at is None
            holds_up = holds_up or (row.status == "unknown" and row.released_at is None)  # until somebody has looked
            if row.ended_at is not None and row.ended_at < ended_before and not holds_up:
                del self.accepted[uid]
        assert desk.purge(self.now()) >= 0
        assert DeferredRequest.objects.count() == len(self.accepted)
        self.seen["purged"] += 1

    @precondition(lambda self: self.mifos.late)
    @rule(which=WHICH)
    def late_one_is_done(self, which: int) -> None:
        self.mifos.works_off(which)
        self.seen["late"] += 1

    # -- operators and callers -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.accepted)
    @rule(which=WHICH, act=st.sampled_from([*ACTS]))
    def operator(self, which: int, act: str) -> None:
        """On what has ended badly, rather, if there is such."""
        rows = DeferredRequest.objects.order_by("pk")
        ones = list(rows.filter(status__in=("rejected", "unknown", "expired")) or rows)
        ACTS[act](self, ones[which % len(ones)])

    def _cancels(self, row: DeferredRequest) -> None:
        try:
            desk.cancel(row.pk)
        except NotPossible:
            assert row.status not in ("queued", "rejected", "unknown", "cancelled")
            return
        self.seen["cancelled"] += 1
        self.given_up.add(self._ident(row))

    def _retries(self, row: DeferredRequest, new_key: bool | None = None) -> None:
        try:
            desk.retry(row.pk, new_key=new_key)
        except NotPossible as refused:
            self.seen[f"retry refused: {refused.code}"] += 1
            return
        self.seen[f"retried: {row.status}"] += 1
        if new_key and row.status == "unknown":
            self.excused.add(self._ident(row))

    def _releases(self, row: DeferredRequest) -> None:
        try:
            desk.release(row.pk)
        except NotPossible:
            assert row.status not in ("rejected", "unknown")
            return
        self.seen["released"] += 1
        self.given_up.add(self._ident(row))

    def _deals_with_bad_ends(self, row: DeferredRequest) -> None:
        for one in DeferredRequest.objects.filter(status__in=("rejected", "unknown")):
            self._releases(one)

    def _revokes_or_restores(self, row: DeferredRequest) -> None:
        if row.consumer is not None:
            row.consumer.revoked_at = None if row.consumer.revoked_at else self.now()
            row.consumer.save()

    def _changes_a_setting(self, row: DeferredRequest) -> None:
        """Callers' keys are others from then on: with the same ones MIFOS would take their calls for new ones."""
        self.raw = not self.raw
        self._new_keys()
        self._configure()

    @precondition(lambda self: self.restless > 15)
    @rule()
    def well_for_a_while(self) -> None:
        """Then all that can be sent is: nothing waits but behind a bad end, and for who was revoked."""
        self.restless = 0
        self.mifos.works_all_off()
        self.leased.clear()
        self.made.clear()
        for _ in range(25):
            self.seconds += 61
            self.tidies()
            leased = delivery.lease(self.now(), limit=100, breakers=[*registry.circuits])
            for one in leased:
                self.mifos.deed, self.mifos.fate = "done", "answered"
                self.sent.add(one.row.pk)
                delivery.settle(one, delivery.attempt(one))
            if not leased and not DeferredRequest.objects.filter(status="replaying").exists():
                break
        for row in DeferredRequest.objects.filter(status__in=("queued", "replaying")).select_related("consumer"):
            held = row.consumer is not None and row.consumer.revoked_at is not None
            assert held or self._ahead(row.order, before=row.pk), f"{self._ident(row)} waits for nothing"
        self.seen["all was well"] += 1

    # -- what is promised ----------------------------------------------------------------------------------------------

    def _has_effect(self, ident: str) -> None:
        """Within an order before all that were accepted later, and sent by runners."""
        one = self.of_ident.get(ident)
        self.seen["effect"] += 1
        if one is None or not one.order:
            return
        done = set(self.mifos.effects)
        for other in self.of_ident.values():
            if other.order == one.order and other.pk > one.pk and other.pk in self.sent and other.ident in done:
                assert ident in self.given_up, f"{ident} after {other.ident}, which came later"

    @invariant()
    def keeps_what_is_promised(self) -> None:
        type(self).steps += 1
        self.restless += 1
        rows = {str(row.uid): row for row in DeferredRequest.objects.order_by("pk")}
        assert set(self.accepted) <= set(rows), "vanished"
        done = Counter(self.mifos.effects)
        for ident, times in done.items():
            assert times == 1 or ident in self.excused, f"{ident}: {times} times"
        self._at_most_one_is_sent(rows)
        for row in rows.values():
            self._says_the_truth(row, done)
        if rows:  # each in its turn: a look costs some queries
            row = [*rows.values()][self.steps % len(rows)]
            assert desk.entry(row)["position"] == self._position(row, rows)

    def _at_most_one_is_sent(self, rows: dict[str, DeferredRequest]) -> None:
        live = Counter(row.order for row in rows.values() if row.order and row.status == "replaying")
        assert not live or max(live.values()) == 1

    def _says_the_truth(self, row: DeferredRequest, done: Counter[str]) -> None:
        ident, status = self._ident(row), str(row.status)
        if status in ("delivered", "awaiting_approval"):
            assert done[ident], f"{ident} is {status}, and MIFOS has not done it"
        assert status != "expired" or not row.perhaps_sent, f"{ident} is expired, and was perhaps sent"
        if ident in self.excused or not done[ident]:
            return
        if status == "rejected" or (status in ("cancelled", "expired", "queued") and not row.perhaps_sent):
            raise AssertionError(f"{ident} is {status}, and MIFOS has done it")

    def _position(self, row: DeferredRequest, rows: dict[str, DeferredRequest]) -> int | None:
        waiting = [one for one in rows.values() if one.status in UNFINISHED and one.released_at is None]
        if row.pk not in {one.pk for one in waiting}:
            return None
        return 1 + sum(one.order == row.order != "" and one.pk < row.pk for one in waiting)

    def _ahead(self, order: str, *, before: int = 2**60) -> bool:
        found = DeferredRequest.objects.filter(order=order, pk__lt=before, status__in=UNFINISHED, released_at=None)
        return bool(order) and found.exists()

    def _ident(self, row: DeferredRequest) -> str:
        if row.pk not in self.idents:
            body = intake.unsealed(row.payload)[1]
            assert body is not None
            self.idents[row.pk] = str(json.loads(body)["ident"])
        return self.idents[row.pk]

"""What the dashboard shows of an overview: the sentence, the cards by group, the sparkline. It asks for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from breaker.acting import ACTS
from breaker.engine import desk
from breaker.engine.machine import State
from breaker.engine.stores.base import Worker
from breaker.origins import is_switched
from breaker.queries import Change, Entry, Minute, Overview

PAGE = 50
"""Cards on a page."""
MINUTES = 11
"""Bars of a sparkline: ten minutes and the one that runs."""
NAMED = 3
"""Breakers that the sentence names before it counts the rest."""
FRESH = 0.9
"""Seconds for which one reading serves all who watch."""
SILENT_MS = 2000
"""A worker unheard for so long is told as silent, and one that has not followed a change so old as behind."""
FLAPS = 4
"""Changes that one breaker makes within SILENT_MS, at most: of one that changed a moment ago only the last is known."""

STATES = {
    "trouble": gettext_lazy("open or on trial"),
    "OPEN": gettext_lazy("open"),
    "HALF_OPEN": gettext_lazy("half-open"),
    "CLOSED": gettext_lazy("closed"),
    "forced": gettext_lazy("forced"),
    "disabled": gettext_lazy("disabled"),
}
_CUSTOM = "custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """The bars of a sparkline as SVG paths, 110 wide and 100 high: what failed at the foot, the other calls on it."""

    calls: str = ""
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One breaker as the page shows it."""

    entry: Entry
    group: str
    place: int
    minutes: Sequence[Minute] = ()
    change: Change | None = None

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def facts(self) -> tuple[object, ...]:
        """All that a card shows, but for what the script counts: the same facts are the same card."""
        entry = self.entry
        shown = entry.labels, entry.policy, entry.snapshot, entry.standing, entry.totals
        return *shown, self.group, self.change, tuple(self.minutes), entry.now // 60_000

    @cached_property
    def label(self) -> str:
        """Maker POST; a custom breaker's own name."""
        labels = self.entry.labels
        return self.name if self.group == _CUSTOM else f"{labels.group.capitalize()} {labels.key.upper()}"

    @cached_property
    def tone(self) -> str:
        """What colour and shape follow."""
        if not self.entry.enabled:
            return "off"
        return {State.OPEN: "open", State.HALF_OPEN: "half"}.get(self.entry.standing.state, "closed")

    @property
    def shape(self) -> str:
        return {"open": "▲", "half": "◐", "closed": "●", "off": "○"}[self.tone]

    @property
    def word(self) -> str:
        return _("DISABLED") if self.tone == "off" else self.entry.state.replace("_", "-")

    @property
    def shown(self) -> str:
        """State and operator's word in one, for who is asked to confirm and for what changed since."""
        marks = [_("forced %s") % self.entry.forced] if self.entry.forced else []
        return ", ".join([self.word, *marks])

    @cached_property
    def rank(self) -> int:
        """Trouble first."""
        if self.tone in ("open", "half"):
            return 0 if self.tone == "open" else 1
        if self.entry.judgement == "failing":
            return 2
        return 3 if self.held or self.only_fails else 4

    @cached_property
    def only_fails(self) -> bool:
        """Whether no call of the window succeeded, though there were some: too few may have been made to judge."""
        totals = self.entry.totals
        return totals.completed > 0 and not totals.successes

    @property
    def judged(self) -> str:
        """The judgement, where the state does not say it: a CLOSED breaker may have seen too little to open."""
        stands = self.entry.enabled and not self.entry.forced
        return self.entry.judgement if stands and self.tone == "closed" else ""

    @cached_property
    def held(self) -> bool:
        """Whether an operator's word stands over what the breaker computes."""
        return bool(self.entry.forced) or self._switched_off

    @property
    def off_by_options(self) -> bool:
        """Whether it is disabled without an operator's word."""
        return not self.entry.enabled and not self._switched_off

    @property
    def _switched_off(self) -> bool:
        return not self.entry.enabled and is_switched(self.entry)

    @property
    def computed(self) -> str:
        """What the breaker would do without the operator's word."""
        return self.entry.computed_state.replace("_", "-")

    @property
    def since(self) -> datetime | None:
        """When what is shown began; None: before `act_at`, for only the last act's time is kept."""
        snapshot = self.entry.snapshot
        if not self.held:
            return _moment(snapshot.since)
        began = ("disable",) if self._switched_off else ("open", "close")
        return self.act_at if snapshot.acted.get("action", began[0]) in began else None

    @property
    def act_at(self) -> datetime:
        return _moment(self.entry.snapshot.act_at)

    @property
    def trial_at(self) -> datetime | None:
        """When a trial call may follow."""
        waits = self.tone == "open" and not self.entry.forced
        return _moment(self.entry.snapshot.until) if waits else None

    @property
    def held_until(self) -> datetime | None:
        """When force or switch ends by itself; None: not before it is released."""
        snapshot = self.entry.snapshot
        until = snapshot.switch_until if self._switched_off else snapshot.force_until
        return _moment(until) if until is not None else None

    @property
    def seen(self) -> str:
        """What the operator saw, to be compared when the act arrives."""
        return f"{self.name} {desk.seen(self.entry.snapshot)} {self.shown}"

    @property
    def changed(self) -> str:
        """The last change and by whom, where that is more than the state's own beginning."""
        change = self.change
        if change is None or not change.actor:
            return _("by itself") if change else ""
        what = ACTS[change.what].title if change.what in ACTS else change.what
        return f"{what}, {change.actor}: {change.reason}" if change.reason else f"{what}, {change.actor}"

    @property
    def acts(self) -> list[tuple[str, Any]]:
        """What makes sense now, with its title."""
        entry = self.entry
        fits = {
            "open": entry.forced != "open",
            "close": entry.forced != "closed",
            "release": bool(entry.forced),
            "disable": entry.enabled,
            "enable": not entry.enabled,
        }
        return [(action, kind.title) for action, kind in ACTS.items() if fits.get(action, True)]

    @property
    def per_second(self) -> str:
        return f"{self.entry.totals.fires / self.entry.policy.rolling_count_timeout:.1f}"

    @property
    def error_rate(self) -> str:
        return f"{self.entry.totals.deciding_error_rate:.1f}"

    @property
    def threshold(self) -> str:
        return f"{self.entry.policy.error_threshold_percentage:g}"

    @property
    def p50(self) -> str:
        return self._percentile(0.50)

    @property
    def p95(self) -> str:
        return self._percentile(0.95)

    @property
    def p99(self) -> str:
        return self._percentile(0.99)

    def _percentile(self, fraction: float) -> str:
        totals = self.entry.totals
        return _latency(totals.percentile(fraction)) if totals.histogram else "-"

    @property
    def witnesses(self) -> str:
        """How many processes see it fail, on how many hosts."""
        totals = self.entry.totals
        if not totals.processes:
            return ""
        text = ngettext("%(count)d process on %(hosts)s sees", "%(count)d processes on %(hosts)s see", totals.processes)
        seen = text % {"count": totals.processes, "hosts": _hosts(totals.hosts)}
        return _("%(seen)s failures") % {"seen": seen}

    @cached_property
    def spark(self) -> Spark:
        busiest = max(map(_calls, self.minutes), default=0) or 1
        first = _whole_minute(_moment(self.entry.now)) - timedelta(minutes=MINUTES - 1)
        calls, failed = [], []
        for minute in self.minutes:
            place = round((_whole_minute(minute.at) - first) / timedelta(minutes=1))
            if not 0 <= place < MINUTES:
                continue
            top, foot = (100 - 100 * n / busiest for n in (_calls(minute), minute.failures + minute.timeouts))
            calls.append(f"M{place * 10} {foot:.0f}V{top:.0f}h8V{foot:.0f}z")
            if minute.failures + minute.timeouts:
                failed.append(f"M{place * 10} 100V{foot:.0f}h8V100z")
        return Spark(calls="".join(calls), failed="".join(failed))

    @property
    def story(self) -> str:
        """The sparkline in words."""
        calls = sum(map(_calls, self.minutes))
        failed = sum(minute.failures + minute.timeouts for minute in self.minutes)
        text = ngettext(
            "Last 10 minutes: %(calls)d call, %(failed)d failed",
            "Last 10 minutes: %(calls)d calls, %(failed)d failed",
            calls,
        )
        return text % {"calls": calls, "failed": failed}


@dataclass(frozen=True, kw_only=True)
class Group:
    name: str
    cards: Sequence[Card]


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """How things are: `text`, then what is to be said of each of `named`, then `more`."""

    tone: str
    """calm, watch or trouble: what title and favicon follow."""
    text: str
    named: Sequence[Card] = ()
    more: str = ""

    @property
    def title(self) -> str:
        """For the tab: short, and without what moves each second."""
        names = ", ".join(card.label for card in self.named) + self.more
        return {"trouble": "▲ ", "watch": "◐ "}.get(self.tone, "") + (f"{self.text} {names}" if names else self.text)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What of the breakers is asked for."""

    text: str = ""
    state: str = ""
    sort: str = "trouble"
    page: str = "1"

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """From a query string; what is unknown counts as not said."""
        state, by_name = query.get("state", ""), query.get("sort") == "name"
        return cls(
            text=query.get("q", "").strip()[:100],
            state=state if state in STATES else "",
            sort="name" if by_name else "trouble",
            page=query.get("p", "1")[:9],
        )

    def query(self, page: int) -> str:
        return urlencode({"q": self.text, "state": self.state, "sort": self.sort, "p": page})

    def takes(self, card: Card) -> bool:
        if self.text.lower() not in f"{card.name} {card.label}".lower():
            return False
        entry = card.entry
        match self.state:
            case "":
                return True
            case "trouble":
                return card.rank < 2
            case "forced":
                return bool(entry.forced)
            case "disabled":
                return not entry.enabled
            case state:
                return entry.enabled and entry.state == state


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """A worker by its heartbeat."""

    worker: Worker
    heard: datetime
    is_silent: bool
    lags: bool
    """Heard, but behind by more than what can have changed a moment ago."""

    @property
    def age(self) -> int:
        """Seconds since the heartbeat, upwards: what changes with each look would be sent with each look."""
        return max(1, -(-self.worker.age_ms // 1000))


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that the page shows."""

    overview: Overview
    sentence: Sentence
    page: Page[Card]
    asked: Filter

    @property
    def groups(self) -> list[Group]:
        found: dict[str, list[Card]] = {}
        for card in self.page:
            found.setdefault(card.group, []).append(card)
        return [Group(name=name, cards=cards) for name, cards in found.items()]

    @property
    def pages(self) -> list[tuple[int, str]]:
        """Number and query string of each page; none while one holds all."""
        count = self.page.paginator.num_pages
        return [(number, self.asked.query(number)) for number in range(1, count + 1)] if count > 1 else []

    @property
    def now(self) -> datetime:
        return self.overview.status.at

    @property
    def age(self) -> int:
        """Seconds that the numbers are old at most while all is well, upwards: one reading serves all for a while, and
        the script asks after as long. What is more the script counts, for a gateway that hangs says nothing."""
        return -(-(self.overview.age_ms + 2 * round(FRESH * 1000)) // 1000)

    @property
    def reporting(self) -> str:
        """How many workers are heard, on how many hosts."""
        heard = [pulse.worker for pulse in self.pulses if not pulse.is_silent]
        text = ngettext("%(count)d worker on %(hosts)s reports.", "%(count)d workers on %(hosts)s report.", len(heard))
        return text % {"count": len(heard), "hosts": _hosts(len({worker.host for worker in heard}))}

    @property
    def amiss(self) -> str:
        """How many workers are silent, and how many lag behind."""
        silent, lag = sum(pulse.is_silent for pulse in self.pulses), sum(pulse.lags for pulse in self.pulses)
        said = [ngettext("%d is silent", "%d are silent", silent) % silent] if silent else []
        said += [ngettext("%d lags behind", "%d lag behind", lag) % lag] if lag else []
        return ", ".join(said)

    @cached_property
    def pulses(self) -> list[Pulse]:
        """Who has been dead for less than a minute is still among them, as silent."""
        entries = self.overview.status.entries
        changed = (entry.now - max(entry.snapshot.since, entry.snapshot.act_at) for entry in entries)
        excused = FLAPS * sum(age <= SILENT_MS for age in changed)
        return [self._pulse(worker, excused) for worker in self.overview.workers]

    def _pulse(self, worker: Worker, excused: int) -> Pulse:
        is_silent = worker.age_ms > SILENT_MS
        return Pulse(
            worker=worker,
            # To the second: two readings of one clock differ by a few ms, and would be sent as news.
            heard=(self.now - timedelta(milliseconds=worker.age_ms)).replace(microsecond=0),
            is_silent=is_silent,
            lags=worker.behind > excused and not is_silent,
        )


def cards(overview: Overview) -> list[Card]:
    """All breakers, in the order in which their process made them."""
    own = {entry.name for entry in overview.status.own}
    return [
        Card(
            entry=entry,
            group=entry.labels.group if entry.name in own else _CUSTOM,
            place=place,
            minutes=overview.recent.get(entry.name, ()),
            change=overview.changes.get(entry.name),
        )
        for place, entry in enumerate(overview.status.entries)
    ]


def board(overview: Overview, asked: Filter) -> Board:
    """One page of what is asked for, and the sentence over all."""
    every = cards(overview)
    taken = _sorted((card for card in every if asked.takes(card)), asked.sort)
    page = Paginator(taken, PAGE).get_page(asked.page)
    return Board(overview=overview, sentence=sentence(overview, every), page=page, asked=asked)


def _sorted(taken: Iterable[Card], by: str) -> list[Card]:
    """Groups stay together; one with trouble comes first, and in it the worst breaker."""
    chosen = list(taken)
    first: dict[str, int] = {}
    worst: dict[str, int] = {}
    for card in chosen:
        first.setdefault(card.group, card.place)
        worst[card.group] = min(card.rank, worst.get(card.group, card.rank))

    def key(card: Card) -> tuple[int, bool, int, int, str]:
        by_name = by == "name"
        # Only an open or trying breaker moves its group: a busy page must not jump about for less.
        group = 2 if by_name else min(worst[card.group], 2)
        return group, card.group == _CUSTOM, first[card.group], *((0, card.name) if by_name else (card.rank, ""))

    return sorted(chosen, key=key)


def sentence(overview: Overview, every: Sequence[Card]) -> Sentence:
    """How things are, in one sentence."""
    said = _sentence(every)
    if overview.lost and said.tone == "calm":
        return Sentence(tone="watch", text=said.text, named=said.named, more=said.more)
    return said


def _sentence(every: Sequence[Card]) -> Sentence:
    if not every:
        return Sentence(tone="calm", text=_("No breaker has been seen yet."))
    for tone, rank, text in (
        ("trouble", 0, ngettext("%d breaker OPEN:", "%d breakers OPEN:", _count(every, 0))),
        ("watch", 1, ngettext("%d breaker on trial:", "%d breakers on trial:", _count(every, 1))),
    ):
        if found := [card for card in every if card.rank == rank]:
            return _naming(tone, text, found, _others(every, rank))
    if held := [card for card in every if card.held]:
        text = ngettext("%d breaker held by an operator:", "%d breakers held by an operator:", len(held))
        return _naming("watch", text, held)
    tone, text = _answering([card for card in every if card.group != _CUSTOM] or every)
    if failing := [card for card in every if card.rank == 2]:  # the window still holds what opened it
        labels, left = ", ".join(card.label for card in failing[:NAMED]), len(failing) - NAMED
        more = _(", and %d more") % left if left > 0 else ""
        return Sentence(tone="watch", text=f"{text}; " + _("recent errors above the threshold: %s") % labels, more=more)
    return Sentence(tone=tone, text=f"{text}.")


def _answering(own: Sequence[Card]) -> tuple[str, str]:
    """Tone, and whether the service answers: a custom breaker's calls tell nothing of it."""
    service = next((card.entry.labels.service for card in own if card.entry.labels.service), "") or _("The service")
    known = {"service": service, "closed": sum(card.tone == "closed" for card in own), "all": len(own)}
    off = sum(card.off_by_options for card in own)
    text = ngettext(", %d disabled by its options", ", %d disabled by their options", off) % off if off else ""
    called = [card for card in own if card.entry.totals.completed]
    if not called:
        return "calm", _("%(service)s has not been called lately: %(closed)d of %(all)d closed") % known + text
    if any(not card.only_fails for card in called):
        return "calm", _("%(service)s is answering: %(closed)d of %(all)d closed") % known + text
    # Without their number, which moves: the tab's title and what is read out follow this text.
    failed = _("%(service)s: all recent calls failed, too few to judge; %(closed)d of %(all)d closed")
    if any(card.rank == 2 for card in called):
        failed = _("%(service)s: all recent calls failed; %(closed)d of %(all)d closed")
    return "watch", failed % known + text


def _others(every: Sequence[Card], rank: int) -> str:
    """What else is not as it should be, counted."""
    trying = _count(every, 1) if rank == 0 else 0
    held = sum(card.held for card in every if card.rank > 1)
    said = [ngettext("%d on trial", "%d on trial", trying) % trying] if trying else []
    said += [ngettext("%d held by an operator", "%d held by an operator", held) % held] if held else []
    return "; " + _("also %s") % ", ".join(said) if said else ""


def _naming(tone: str, text: str, found: Sequence[Card], others: str = "") -> Sentence:
    left = len(found) - NAMED
    more = (ngettext(", and %d more", ", and %d more", left) % left if left > 0 else "") + others
    return Sentence(tone=tone, text=text % len(found), named=found[:NAMED], more=more)


def _hosts(count: int) -> str:
    return ngettext("%d host", "%d hosts", count) % count


def _count(every: Iterable[Card], rank: int) -> int:
    return sum(card.rank == rank for card in every)


def _calls(minute: Minute) -> int:
    return minute.successes + minute.failures + minute.timeouts + minute.rejects


def _whole_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _latency(seconds: float) -> str:
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"

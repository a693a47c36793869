"""What MIFOS has answered to reads, kept in Django's cache for when it does not.

    kept:2:slot:<n>                an answer: whose it is (a keyed digest), since when, then compressed and encrypted
    kept:2:word:<MIFOS>:<family>   a random word; an answer counts while its families' words are those it was read under

There are so many slots, each of a size, so nothing is kept without a bound; an answer has two to choose from. A write
deletes its families' words when it goes out and when it has ended, so that what was read meanwhile counts no longer;
who looks next makes new ones. (To delete is what a Redis that is full still does.) A write whose end nobody knows does
so again later. Words that a cache which is away could not delete are owed, and a thread pays when it is back.

Nothing here raises, and a call waits for a cache that hangs once: then it is left alone until the thread reaches it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import math
import os
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from django.core.cache import caches
from django.core.signals import setting_changed
from django.utils.crypto import salted_hmac

from mifos_gateway import conf, resources, targets, vault
from mifos_gateway.client import answer_of, api_path, place_of

if TYPE_CHECKING:
    import requests

    from mifos_gateway.guard import Call

log = logging.getLogger("gateway")
T = TypeVar("T")

PREFIX = "kept:2:"
LONGEST = 86_400
"""Seconds that an answer may be kept."""
SLOW = 0.5
"""Seconds after which the cache is left alone though it has answered. Its client gives up after 0.1 s by this
project's settings; a look-up of its name, which no client bounds, may take longer."""
SAME_FOR = 1.0
"""Seconds for which an answer that has not changed is not kept again: it would be, at each call of a busy route."""
PROBE_EVERY = 1.0
AGAIN_AFTER = 60.0
"""Seconds after which a write whose end nobody knows drops once more: MIFOS may carry it out that late."""
HEADERS = (
    *("Content-Type", "ETag", "Last-Modified", "Content-Language", "Content-Disposition", "Cache-Control", "Expires"),
    "Date",
)
_UNKEYED = frozenset(
    ("x-request-id", "x-correlation-id", "if-none-match", "if-match", "if-modified-since", "if-unmodified-since")
)
_VARIES_BY = frozenset(
    ("accept", "accept-encoding", "origin", "access-control-request-method", "access-control-request-headers")
)
"""What every answer may vary by: the key holds the first, the others never go to MIFOS or are always the same."""
_CHUNK = 64 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer of MIFOS with status 200. `at`: when it was asked for, in seconds since 1970."""

    digest: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    words: Mapping[str, str]

    @property
    def etag(self) -> str:
        return self.headers.get("ETag", "")

    def sealed(self, limit: int) -> bytes | None:
        """As it is stored, None where that is larger than the limit."""
        head = {"digest": self.digest, "headers": dict(self.headers), "at": self.at, "words": dict(self.words)}
        packed = _compressed(json.dumps(head).encode() + b"\n" + self.body, limit)
        if packed is None:
            return None
        sealed = _mark(self.digest, self.at) + vault.seal(packed)
        return sealed if len(sealed) <= limit else None

    @classmethod
    def unsealed(cls, stored: bytes) -> Kept:
        head, _, body = zlib.decompress(vault.unseal(stored[_MARK:])).partition(b"\n")
        return cls(**json.loads(head), body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A look at what is kept for one read. Without `words` the cache has not answered, and nothing is kept."""

    digest: str
    asked_at: float
    words: Mapping[str, str] | None = None
    slot: str = ""
    kept: Kept | None = None
    wall: Callable[[], float] = field(default=time.time, compare=False)

    @property
    def age(self) -> float:
        """Of what is kept, by now, in seconds; hosts' clocks may be apart."""
        assert self.kept is not None
        return max(0.0, self.wall() - self.kept.at)

    def answer(self, *, if_none_match: str = "") -> requests.Response:
        """What is kept, as an answer that tells its age; 304 where the caller has it already."""
        assert self.kept is not None
        headers = {**self.kept.headers, "Age": str(int(self.age))}
        if self.kept.etag and matches(if_none_match, self.kept.etag):
            return answer_of(304, b"", {name: value for name, value in headers.items() if name != "Content-Type"})
        return answer_of(200, self.kept.body, headers)


class Answers:
    """The answers kept for all processes of this deployment. `wall` in seconds since 1970, `monotonic` in seconds.

    `threads` false: nobody pays what is owed but `pay`.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        threads: bool = True,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._threads = threads
        self.used = False
        """Whether this process has kept or dropped any: its writes must drop from then on."""
        self.begin()

    def begin(self) -> None:
        """Anew, in a new process."""
        self.away = False
        self._owed: set[tuple[float, str]] = set()
        """When which family is to be dropped; one may be owed at several times."""
        self._lock = threading.Lock()
        self._wakes = threading.Event()
        self._payer: threading.Thread | None = None

    def visit(self, call: Call) -> Visit:
        """What is kept of this read, and what must be known to keep its answer: one round trip."""
        self.used = True
        nothing = Visit(digest="", asked_at=self._wall(), wall=self._wall)
        return nothing if call.body else self._patiently(lambda: self._look(call, nothing), nothing)

    def keep(self, visit: Visit, answer: requests.Response, *, seconds: float) -> None:
        """Keep MIFOS's good answer for so long. One that is not to be kept, or too large, ends the one before it."""
        if visit.words is not None:
            self._patiently(lambda: self._keep(visit, answer, seconds), None)

    def confirm(self, visit: Visit, answer: requests.Response, *, seconds: float) -> Visit:
        """MIFOS says by a 304 that what is kept is today's."""
        assert visit.kept is not None
        at = visit.asked_at - _age_of(answer)
        headers = {**visit.kept.headers, **_dated(_headers(answer), at)}
        kept = replace(visit.kept, headers=headers, at=max(at, visit.kept.at))
        self._patiently(lambda: self._put(visit, kept, seconds), None)
        return replace(visit, kept=kept)

    def forget(self, visit: Visit) -> None:
        self._patiently(lambda: self._forget(visit), None)

    def drop(self, path: str, *, again: bool = False) -> None:
        """Count what a write to that path may have changed no longer: now, or as soon as the cache is there.

        `again`: once more later, for nobody knows whether MIFOS has done it yet.
        """
        self.used = True
        families = resources.changed_by(path)
        self._owe(families, at=float("-inf"))
        if not self.away:
            with contextlib.suppress(Exception):  # then it has been left alone, and the debt stays
                self.pay()
        if again:
            self._owe(families, at=math.ceil(self._monotonic() + AGAIN_AFTER))  # whole seconds: so many debts at most

    def pay(self) -> bool:
        """Delete the words of what is due; whether nothing is any more. Raises what the cache raises."""
        with self._lock:  # to the end: who owes the same may go on only when it is paid
            if not self.away:
                self._delete(self._due())
            return not self._owed

    def probe(self) -> None:
        """Is the cache back? Then pay, and let calls ask it again. Raises what the cache raises."""
        _cache().get(_word(resources.REFERENCE))
        with self._lock:
            self._delete(self._due())
            self.away = False
        log.warning("Answers of MIFOS are kept again")

    def _due(self) -> set[tuple[float, str]]:
        now = self._monotonic()
        return {debt for debt in self._owed if debt[0] <= now}

    def _delete(self, debts: set[tuple[float, str]]) -> None:
        if not debts:
            return
        try:
            _cache().delete_many([_word(family) for family in sorted({family for _, family in debts})])
        except Exception as error:
            self._leave_alone(type(error).__name__)  # before the next writer gets the lock
            raise
        self._owed = self._owed - debts

    # -- the cache -----------------------------------------------------------------------------------------------------

    def _look(self, call: Call, visit: Visit) -> Visit:
        target = targets.parse(call.target)
        digest = _digest(call, target.query)
        slots, words = _slots(digest), {family: _word(family) for family in resources.shown_by(target.path)}
        found = _cache().get_many([*slots, *words.values()])
        todays = {family: _text(found.get(name)) or _make_word(name) for family, name in words.items()}
        mine = next((slot for slot in slots if _is_of(found.get(slot), digest)), "")
        kept = _unsealed(found.get(mine), digest)
        return replace(
            visit,
            digest=digest,
            words=todays,
            slot=mine or min(slots, key=lambda slot: _since(found.get(slot))),
            kept=kept if kept is not None and kept.words == todays else None,
        )

    def _keep(self, visit: Visit, answer: requests.Response, seconds: float) -> None:
        if answer.status_code != 200 or not _varies_by_nothing_else(answer):
            self._forget(visit)
            return
        at, before = visit.asked_at - _age_of(answer), visit.kept
        headers = _headers(answer)
        same = before is not None and (before.body, before.etag) == (answer.content, headers.get("ETag", ""))
        if same and before is not None and at - before.at < SAME_FOR:
            return
        words = visit.words or {}
        kept = Kept(digest=visit.digest, headers=_dated(headers, at), body=answer.content, at=at, words=words)
        self._put(visit, kept, seconds)

    def _put(self, visit: Visit, kept: Kept, seconds: float) -> None:
        sealed = kept.sealed(conf.gateway().cached_entry_bytes)
        if sealed is None:
            self._forget(visit)
        else:
            _cache().set(visit.slot, sealed, timeout=math.ceil(seconds))

    def _forget(self, visit: Visit) -> None:
        if visit.kept is not None:
            _cache().delete(visit.slot)

    def _patiently(self, ask: Callable[[], T], otherwise: T) -> T:
        if self.away:
            self._wake()  # lest the thread that looks for it has died, or never came to life
            return otherwise
        began = self._monotonic()
        try:
            answered = ask()
        except Exception as error:
            if _is_away(error):
                self._leave_alone(type(error).__name__)
            else:
                log.warning("An answer of MIFOS could not be kept (%s)", type(error).__name__)
            return otherwise
        if self._monotonic() - began > SLOW:
            self._leave_alone("it is slow")
        return answered

    def _leave_alone(self, why: str) -> None:
        if not self.away:
            self.away = True
            log.warning("Answers of MIFOS are not kept: the cache is away (%s)", why)
        self._wake()

    # -- what is owed --------------------------------------------------------------------------------------------------

    def _owe(self, families: Iterable[str], *, at: float) -> None:
        with self._lock:
            self._owed = self._owed | {(at, family) for family in families}
        if at > float("-inf") or self.away:
            self._wake()

    def _wake(self) -> None:
        self._wakes.set()
        if self._threads and (self._payer is None or not self._payer.is_alive()):
            payer = threading.Thread(target=self._pay_for_ever, name="kept-answers", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads, or the process ends; the next call tries again
                payer.start()
                self._payer = payer

    def _pay_for_ever(self) -> None:
        while True:
            self._wakes.wait()
            self._wakes.clear()
            while self.away or self._owed:
                try:
                    self.probe() if self.away else self.pay()
                except Exception as error:
                    if not self.away:
                        self._leave_alone(type(error).__name__)
                if self.away:
                    time.sleep(PROBE_EVERY)
                else:
                    self._wakes.wait(PROBE_EVERY)
                    self._wakes.clear()

    def finish(self) -> None:
        """At the process's end: what can be paid, at once."""
        if self._owed:
            try:
                self._delete(set(self._owed))
            except Exception as error:
                log.warning("Kept answers that writes have changed were not dropped (%s)", type(error).__name__)


answers = Answers()
atexit.register(answers.finish)
os.register_at_fork(after_in_child=answers.begin)


def matches(if_none_match: str, etag: str) -> bool:
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in given or etag.removeprefix("W/") in given


def _is_away(error: Exception) -> bool:
    """Else what lies there is not ours to read, which another call may well be."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("redis", "django_redis")


# -- an answer as it is stored -----------------------------------------------------------------------------------------

_MARK = 64 + 8


def _mark(digest: str, at: float) -> bytes:
    return digest.encode() + int(at * 1000).to_bytes(8, "big")


def _is_of(stored: Any, digest: str) -> bool:
    return isinstance(stored, bytes) and stored[:64] == digest.encode()


def _since(stored: Any) -> int:
    return int.from_bytes(stored[64:_MARK], "big") if isinstance(stored, bytes) else 0


def _unsealed(stored: Any, digest: str) -> Kept | None:
    if not stored:
        return None
    try:
        kept = Kept.unsealed(stored)
    except (ValueError, TypeError, zlib.error):
        return None  # of another version, or of a key that is gone
    return kept if kept.digest == digest else None


def _compressed(content: bytes, limit: int) -> bytes | None:
    packer, packed = zlib.compressobj(1), bytearray()
    for start in range(0, len(content), _CHUNK):
        packed += packer.compress(content[start : start + _CHUNK])
        if len(packed) > limit:  # before the rest is looked at
            return None
    return bytes(packed + packer.flush())


def _headers(answer: requests.Response) -> dict[str, str]:
    return {name: answer.headers[name] for name in HEADERS if name in answer.headers}


def _dated(headers: dict[str, str], at: float) -> dict[str, str]:
    return {"Date": formatdate(at, usegmt=True)} | headers


def _age_of(answer: requests.Response) -> int:
    age = answer.headers.get("Age", "")
    return int(age) if age.isdecimal() and len(age) < 10 else 0


def _varies_by_nothing_else(answer: requests.Response) -> bool:
    named = {name.strip().lower() for name in answer.headers.get("Vary", "").split(",")}
    return named - {""} <= _VARIES_BY


# -- the keys ----------------------------------------------------------------------------------------------------------


def _digest(call: Call, query: str) -> str:
    """Of all that an answer depends on; keyed, so that the cache does not tell what was asked."""
    said = sorted((name.lower(), value) for name, value in call.headers.items() if name.lower() not in _UNKEYED)
    pairs = sorted(parse_qsl(query, keep_blank_values=True, encoding="latin-1"), key=lambda pair: pair[0])
    path = api_path(call.target).partition("?")[0]
    who = conf.mifos().get(f"{call.user.upper()}_USERNAME")
    asked = json.dumps([_mifos(), call.user, who, path, pairs, said])
    return salted_hmac("mifos_gateway.kept", asked, algorithm="sha256").hexdigest()


def _slots(digest: str) -> tuple[str, str]:
    count = max(2, conf.gateway().cached_bytes // conf.gateway().cached_entry_bytes)
    first, second = int(digest[:16], 16) % count, int(digest[16:32], 16) % (count - 1)
    return f"{PREFIX}slot:{first}", f"{PREFIX}slot:{second if second < first else second + 1}"


def _word(family: str) -> str:
    return f"{PREFIX}word:{salted_hmac('mifos_gateway.kept', _mifos()).hexdigest()[:16]}:{family}"


def _make_word(name: str) -> str:
    """None was there: dropped, or evicted. Whoever comes first makes it, so that nothing older counts."""
    for _ in range(3):  # a write may delete it just then
        _cache().add(name, secrets.token_hex(8), timeout=None)
        found = _cache().get(name)
        if word := _text(found):
            return word
        if found is not None:
            _cache().delete(name)  # what lies there is not ours
    raise ConnectionError("the cache keeps nothing")  # or hides that it is away


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


@cache
def _mifos() -> str:
    """This deployment's MIFOS and tenant, however they are spelled."""
    return json.dumps([place_of(conf.mifos().get("BASE_URL") or "http://unset"), conf.tenant()])


def _cache() -> Any:
    return caches[conf.gateway().cache_alias]


def _forget_mifos(*, setting: str, **_: object) -> None:
    if setting == "MIFOS":
        _mifos.cache_clear()


setting_changed.connect(_forget_mifos)

"""What MIFOS has answered to reads, kept in Django's cache for when it gives no answer.

    kept:1:answer:<digest>   the answer, compressed and encrypted: of this MIFOS, tenant, user, path, query and Accept
    kept:1:tag:<family>      a random word that a write changes; an answer counts while its words are today's
    kept:1:shelf:<n>         what lies on one of 256 shelves: digest to size and time; bounds the whole

A write changes its families' words before it is sent and once it is answered or lost, so that what was read meanwhile
counts no longer. Nothing here raises: a cache that is away or full is a miss, and is left alone for a second.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from django.core.cache import caches

from mifos_gateway import conf, resources, targets, vault
from mifos_gateway.client import answer_of

if TYPE_CHECKING:
    import requests

    from mifos_gateway.guard import Call

log = logging.getLogger("gateway")
T = TypeVar("T")

PREFIX = "kept:1:"
LONGEST = 86_400
"""Seconds that an answer may be kept."""
SHELVES = 256
PAUSE = 1.0
"""Seconds for which a cache that failed, or was this slow, is left alone."""
SLOW = 0.09
HEADERS = (
    *("Content-Type", "ETag", "Last-Modified", "Content-Language", "Content-Disposition", "Cache-Control", "Expires"),
    "Date",
)
_AT_ONCE = 512
"""Bytes from which compressing pays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer of MIFOS with status 200. `at`: when it was given, in seconds since 1970."""

    headers: Mapping[str, str]
    body: bytes
    at: float
    tags: Mapping[str, str]

    @property
    def etag(self) -> str:
        return self.headers.get("ETag", "")

    def sealed(self) -> bytes:
        head = json.dumps({"headers": dict(self.headers), "at": self.at, "tags": dict(self.tags)}).encode()
        content = head + b"\n" + self.body
        return vault.seal(b"z" + zlib.compress(content, 1) if len(content) > _AT_ONCE else b"-" + content)

    @classmethod
    def unsealed(cls, sealed: bytes) -> Kept:
        """Raises ValueError (and zlib's error) for what is none."""
        content = vault.unseal(sealed)
        content = zlib.decompress(content[1:]) if content[:1] == b"z" else content[1:]
        head, _, body = content.partition(b"\n")
        return cls(**json.loads(head), body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A look at what is kept for one read. Without `tags` the cache has not answered, and nothing is kept."""

    digest: str
    now: float
    tags: Mapping[str, str] | None = None
    shelf: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    kept: Kept | None = None

    @property
    def age(self) -> float:
        """Of what is kept, in seconds; hosts' clocks may be apart."""
        assert self.kept is not None
        return max(0.0, self.now - self.kept.at)

    def answer(self, *, if_none_match: str = "") -> requests.Response:
        """What is kept, as an answer that tells its age; 304 where the caller has it already."""
        assert self.kept is not None
        headers = {**self.kept.headers, "Age": str(int(self.age))}
        if self.kept.etag and _matches(if_none_match, self.kept.etag):
            return answer_of(304, b"", {name: value for name, value in headers.items() if name != "Content-Type"})
        return answer_of(200, self.kept.body, headers)


class Answers:
    """The answers kept for all processes of this deployment. `wall` in seconds since 1970, `monotonic` in seconds."""

    def __init__(
        self, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._away_until = float("-inf")
        self._owed: set[str] = set()
        """Families that a write has changed and the cache has not been told of."""
        self.used = False
        """Whether this process has kept or dropped any: its writes must drop from then on."""

    def visit(self, call: Call) -> Visit:
        """What is kept of this read, and what must be known to keep its answer: one round trip."""
        self.used = True
        target = targets.parse(call.target)
        visit = Visit(digest=_digest(call, target), now=self._wall())
        return self._patiently(lambda: self._look(visit, resources.shown_by(target.path)), visit)

    def keep(self, visit: Visit, answer: requests.Response, *, seconds: float) -> None:
        """Keep MIFOS's answer for so long, if it is one to be kept and there is room."""
        if visit.tags is None or answer.status_code != 200 or answer.headers.get("Vary", "").strip() == "*":
            return
        headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
        headers.setdefault("Date", formatdate(visit.now, usegmt=True))
        at = visit.now - _seconds(answer.headers.get("Age"))
        self._put(visit, Kept(headers=headers, body=answer.content, at=at, tags=visit.tags), seconds)

    def confirm(self, visit: Visit, answer: requests.Response, *, seconds: float) -> Visit:
        """MIFOS says by a 304 that what is kept is today's."""
        if visit.kept is None:
            return visit
        renewed = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
        renewed.setdefault("Date", formatdate(visit.now, usegmt=True))
        kept = replace(visit.kept, headers={**visit.kept.headers, **renewed}, at=visit.now)
        self._put(visit, kept, seconds)
        return replace(visit, kept=kept)

    def drop(self, path: str) -> None:
        """Count what a write to that path may have changed no longer; as soon as the cache is there."""
        self.used = True
        self._owed.update(resources.changed_by(path))
        self._patiently(self._pay, None)

    # -- the cache -----------------------------------------------------------------------------------------------------

    def _look(self, visit: Visit, families: Iterable[str]) -> Visit:
        self._pay()
        cache, tags = _cache(), {family: _tag(family) for family in families}
        found = cache.get_many([_entry(visit.digest), _shelf(visit.digest), *tags.values()])
        words = {family: found.get(name) or _make_word(name) for family, name in tags.items()}
        kept = _unsealed(found.get(_entry(visit.digest)))
        return replace(
            visit,
            tags=words,
            shelf=found.get(_shelf(visit.digest)) or {},
            kept=kept if kept is not None and kept.tags == words else None,
        )

    def _put(self, visit: Visit, kept: Kept, seconds: float) -> None:
        sealed = kept.sealed()
        room = conf.gateway().cached_bytes // SHELVES
        if len(sealed) <= min(room, conf.gateway().cached_entry_bytes):
            self._patiently(lambda: self._shelve(visit, sealed, seconds, room), None)

    def _shelve(self, visit: Visit, sealed: bytes, seconds: float, room: int) -> None:
        cache, now = _cache(), visit.now
        _, until = known = visit.shelf.get(visit.digest, (0, 0.0))
        if known[0] != len(sealed) or until < now + seconds:
            # Twice as long as the answer, so that this need not be written for each.
            lying = {digest: item for digest, item in visit.shelf.items() if item[1] > now and digest != visit.digest}
            fallen = _fallen(lying, room - len(sealed))
            cache.delete_many([_entry(digest) for digest in fallen])
            lying[visit.digest] = (len(sealed), now + 2 * seconds)
            cache.set(_shelf(visit.digest), lying, timeout=2 * LONGEST)
        cache.set(_entry(visit.digest), sealed, timeout=seconds)

    def _pay(self) -> None:
        owed: set[str] = set()
        while self._owed:  # taken out first: a write that ends meanwhile owes anew
            owed.add(self._owed.pop())
        if not owed:
            return
        try:
            _cache().set_many({_tag(family): secrets.token_hex(8) for family in owed}, timeout=None)
        except Exception:
            self._owed.update(owed)
            raise

    def _patiently(self, ask: Callable[[], T], otherwise: T) -> T:
        began = self._monotonic()
        if began < self._away_until:
            return otherwise
        try:
            return ask()
        except Exception as error:
            self._away_until = self._monotonic() + PAUSE
            log.warning("Answers of MIFOS are not kept: the cache is away (%s)", type(error).__name__)
            return otherwise
        finally:
            if self._monotonic() - began > SLOW:
                self._away_until = self._monotonic() + PAUSE


answers = Answers()


def _fallen(lying: dict[str, tuple[int, float]], room: int) -> list[str]:
    """Takes from a shelf what ends first until the rest has room; what it took."""
    taken, size = [], sum(size for size, _ in lying.values())
    for digest in sorted(lying, key=lambda digest: lying[digest][1]):
        if size <= room:
            break
        size -= lying.pop(digest)[0]
        taken.append(digest)
    return taken


def _unsealed(sealed: Any) -> Kept | None:
    if not sealed:
        return None
    try:
        return Kept.unsealed(sealed)
    except (ValueError, TypeError, zlib.error):
        return None  # of another version, or a key that is gone


def _make_word(name: str) -> str:
    """None was there, or it was evicted: a new one, so that nothing older counts."""
    _cache().add(name, secrets.token_hex(8), timeout=None)
    if (word := _cache().get(name)) is None:
        raise ConnectionError("the cache keeps nothing")  # one that hides that it is away
    return str(word)


def _digest(call: Call, target: targets.Target) -> str:
    accept = next((value for name, value in call.headers.items() if name.lower() == "accept"), "*/*")
    query = sorted(parse_qsl(target.query, keep_blank_values=True), key=lambda pair: pair[0])
    mifos = conf.mifos()
    whose = [mifos.get("BASE_URL"), mifos.get("TENANT_ID"), call.user]
    what = [target.version, target.path, query, accept]
    return hashlib.sha256(json.dumps([whose, what]).encode()).hexdigest()


def _matches(if_none_match: str, etag: str) -> bool:
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in given or etag.removeprefix("W/") in given


def _seconds(age: str | None) -> int:
    return int(age) if age and age.isdecimal() else 0


def _entry(digest: str) -> str:
    return f"{PREFIX}answer:{digest}"


def _shelf(digest: str) -> str:
    return f"{PREFIX}shelf:{int(digest[:8], 16) % SHELVES}"


def _tag(family: str) -> str:
    mifos = conf.mifos()
    whose = json.dumps([mifos.get("BASE_URL"), mifos.get("TENANT_ID")]).encode()
    return f"{PREFIX}tag:{hashlib.sha256(whose).hexdigest()[:16]}:{family}"


def _cache() -> Any:
    return caches[conf.gateway().cache_alias]

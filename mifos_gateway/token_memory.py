"""Remember per process which tokens are live, so that most calls ask no database and all outlive a short loss of it.

What was asked within FRESH seconds is taken as it is, so a revocation is effective everywhere within 10 s. While the
database is away, tokens that it confirmed within the last 15 minutes stay good. One thread of a process asks at a time,
and nobody waits long for it (2 s at first, then 0.3 s): neither a hanging database nor noise in place of tokens can
take the gateway's threads.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import Error as DatabaseFailure
from django.utils import timezone

from mifos_gateway import tokens
from mifos_gateway.refusals import TokensUnavailable
from mifos_gateway.tokens import Identity

log = logging.getLogger("gateway")

FRESH = 9.0
FRESH_UNKNOWN = 5.0
KEPT_WHILE_AWAY = 15 * 60.0
PATIENCE = 0.3
PATIENCE_AT_FIRST = 2.0
"""Seconds since the first thread asked, in a process that has heard nothing yet, an error neither: it knows no token,
and on a busy host its first connection takes its time."""
RETRY_DATABASE_AFTER = 1.0
MOST_LIVE = 10_000
MOST_UNKNOWN = 1_000


@dataclass(frozen=True, slots=True)
class Remembered:
    identity: Identity | None
    asked_at: float


class TokenMemory:
    """Reads take no lock; only the thread that holds `_asking` writes."""

    def __init__(
        self,
        find: Callable[[str], Identity | None] = tokens.find,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._monotonic = monotonic
        self._live: dict[str, Remembered] = {}
        self._unknown: dict[str, Remembered] = {}
        self._has_heard = False
        self._is_away = False
        self._ask_again_at = 0.0
        self.renew_lock()

    def renew_lock(self) -> None:
        """For a forked child, whose parent may have been asking."""
        self._asking = threading.Lock()
        self._asking_since: float | None = None

    def forget(self) -> None:
        self._live.clear()
        self._unknown.clear()
        self._has_heard, self._is_away, self._ask_again_at = False, False, 0.0

    def identify(self, plaintext: str) -> Identity | None:
        """Whose token this is, None when it is not live; TokensUnavailable when nobody can say."""
        if not tokens.is_well_formed(plaintext):
            return None
        key = tokens.digest(plaintext)
        remembered = self._live.get(key) or self._unknown.get(key)
        if remembered is None or not self._is_fresh(remembered):
            remembered = self._ask(key) or self._still_good(remembered)
        return _unless_expired(remembered.identity)

    def _is_fresh(self, remembered: Remembered) -> bool:
        age = self._monotonic() - remembered.asked_at
        return age < (FRESH if remembered.identity else FRESH_UNKNOWN)

    def _still_good(self, remembered: Remembered | None) -> Remembered:
        if remembered is None or self._monotonic() - remembered.asked_at > KEPT_WHILE_AWAY:
            raise TokensUnavailable("Tokens cannot be checked at the moment. Please try again.")
        return remembered

    def _ask(self, key: str) -> Remembered | None:
        """The database's answer, or None when it gives none."""
        if self._monotonic() < self._ask_again_at or not self._asking.acquire(timeout=self._patience()):
            return None
        try:
            asked_at = self._asking_since = self._monotonic()
            another_asked = self._live.get(key) or self._unknown.get(key)
            if another_asked and self._is_fresh(another_asked):
                return another_asked
            return self._remember(key, Remembered(self._find(key), asked_at))
        except DatabaseFailure as error:
            self._note_loss(error)
            return None
        finally:
            self._asking_since = None
            self._asking.release()

    def _patience(self) -> float:
        since, longest = self._asking_since, PATIENCE if self._has_heard else PATIENCE_AT_FIRST
        return longest if since is None else max(0.0, longest - (self._monotonic() - since))

    def _remember(self, key: str, remembered: Remembered) -> Remembered:
        self._note_return()
        self._has_heard = True
        self._live.pop(key, None)
        self._unknown.pop(key, None)
        kept, most = (self._live, MOST_LIVE) if remembered.identity else (self._unknown, MOST_UNKNOWN)
        while len(kept) >= most:
            del kept[next(iter(kept))]
        kept[key] = remembered
        return remembered

    def _note_loss(self, error: Exception) -> None:
        self._has_heard = True
        self._ask_again_at = self._monotonic() + RETRY_DATABASE_AFTER
        if not self._is_away:
            self._is_away = True
            log.warning("database away, tokens are taken from memory: %s", type(error).__name__)

    def _note_return(self) -> None:
        if self._is_away:
            self._is_away = False
            log.warning("database is back, tokens are checked again")


def _unless_expired(identity: Identity | None) -> Identity | None:
    if identity and identity.expires_at and identity.expires_at <= timezone.now():
        return None
    return identity


memory = TokenMemory()

os.register_at_fork(after_in_child=lambda: memory.renew_lock())

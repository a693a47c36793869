"""Lines that other apps add to the dashboard, below its sentence: `extras.add(Extra(...))`, in their AppConfig's ready.

What a line tells is read once for all who watch this process, and never by two at a time: who comes meanwhile gets what
was read last, so that a database that hangs holds up one of them, once. A reading that fails is told in the line.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

log = logging.getLogger("breaker")

FRESH = 0.9
"""Seconds for which one reading serves all who watch."""
SHARE = 20
"""At most one part in so many of the time goes into reading a line."""
IDLE = 10.0
"""Seconds until a line that had nothing to tell, or could not be read, is read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    text: str
    url: str = ""
    since: datetime | None = None
    """Told behind the text as how long ago; the page's script counts on."""
    warns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    name: str
    parts: tuple[Part, ...]


class Extra:
    """One line, shown to users whom `may_see` lets.

    `read` asks for what it tells, None for nothing; `parts` puts that into words, in the reader's language.
    """

    def __init__(
        self,
        name: str,
        *,
        title: Any,
        may_see: Callable[[Any], bool],
        read: Callable[[], Any],
        parts: Callable[[Any], Sequence[Part]],
    ) -> None:
        self.name, self.title, self.may_see, self._read, self._parts = name, title, may_see, read, parts
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._found: Any = None  # what was read last; the error where that failed
        self._until = 0.0

    def line(self) -> Line | None:
        """As it was read last; None: there is nothing to tell."""
        if time.monotonic() >= self._until and self._lock.acquire(blocking=False):
            try:
                self._renew()
            finally:
                self._lock.release()
        found = self._found
        return None if found is None else Line(name=self.name, parts=self._told(found))

    def _told(self, found: Any) -> tuple[Part, ...]:
        if not isinstance(found, Exception):
            try:
                return tuple(self._parts(found))
            except Exception as error:
                self._warn(error)
        return (Part(text=_("%s: not known at present") % self.title, warns=True),)

    def _warn(self, error: Exception) -> None:
        """Whatever another app's line asks for, the dashboard stands."""
        log.warning("The dashboard's line %s could not be read (%s)", self.name, type(error).__name__)

    def _renew(self) -> None:
        began = time.monotonic()
        try:
            self._found = self._read()
        except Exception as error:
            self._warn(error)
            self._found = error
        is_idle = self._found is None or isinstance(self._found, Exception)
        self._until = began + max(IDLE if is_idle else FRESH, SHARE * (time.monotonic() - began))


_extras: dict[str, Extra] = {}


def add(extra: Extra) -> None:
    _extras[extra.name] = extra


def forget() -> None:
    """What was read."""
    for extra in _extras.values():
        extra.forget()


def seen_by(user: Any) -> tuple[str, ...]:
    """The names of those that may be shown to this user."""
    return tuple(name for name, extra in _extras.items() if extra.may_see(user))


def lines(names: Collection[str]) -> tuple[Line, ...]:
    found = (extra.line() for name, extra in _extras.items() if name in names)
    return tuple(line for line in found if line is not None)

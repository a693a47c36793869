"""Who takes part: each library made and used as its own documentation says, with its own defaults.

Only the wait before a trial is longer (600 s), so that a circuit stays open while rejections are measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

STAYS_OPEN = 600

UNGUARDED = "unguarded"
ROUND_TRIP = "bare round trip"
OURS = "ours, Redis"
OURS_ALONE = "ours, memory"
PYBREAKER = "pybreaker, memory"
PYBREAKER_REDIS = "pybreaker, Redis"
INTERLOCK = "interlock-cb, memory"
INTERLOCK_REDIS = "interlock-cb, Redis"
STATUS = "status of 12 breakers, Redis"
STATUS_ALONE = "status of 12 breakers, memory"


class Down(Exception):
    """The guarded function failed."""


def answer() -> None:
    """What every contestant guards."""


def fail() -> None:
    raise Down


@dataclass(frozen=True, kw_only=True)
class Guard:
    """One contestant, ready to be called."""

    call: Callable[[Callable[[], Any]], Any]
    rejection: type[Exception] | tuple[()] = ()
    """What a rejected call raises; (): nothing is ever rejected."""
    settle: Callable[[], Any] = lambda: None
    """Do now what a call has put off. Part of its price, so it is run before the clock is stopped."""

    def trip(self) -> None:
        """Fail until it is open, as in life."""
        for _ in range(100):
            try:
                self.call(fail)
            except self.rejection:
                return
            except Down:
                continue
        raise AssertionError("it does not open")


def _unguarded(name: str, url: str) -> Guard:
    return Guard(call=lambda func: func())


def _round_trip(name: str, url: str) -> Guard:
    ping = connect(url).ping
    return Guard(call=lambda func: ping())


def _ours(name: str, url: str) -> Guard:
    breaker = our_breaker(name, url)
    # Reading the counters folds what calls left for the background to count.
    return Guard(call=breaker.call, rejection=_call_rejected(), settle=lambda: breaker.success_counter)


def _ours_alone(name: str, url: str) -> Guard:
    return _ours(name, "")


def _pybreaker(name: str, url: str) -> Guard:
    import pybreaker

    breaker = pybreaker.CircuitBreaker(name=name, reset_timeout=STAYS_OPEN)
    return Guard(call=breaker.call, rejection=pybreaker.CircuitBreakerError)


def _pybreaker_redis(name: str, url: str) -> Guard:
    import pybreaker

    storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, connect(url), namespace=name)
    breaker = pybreaker.CircuitBreaker(name=name, reset_timeout=STAYS_OPEN, state_storage=storage)
    return Guard(call=breaker.call, rejection=pybreaker.CircuitBreakerError)


def _interlock(name: str, url: str) -> Guard:
    import interlock

    breaker = interlock.CircuitBreaker(name=name, config=interlock.Config(wait_duration_in_open=STAYS_OPEN))
    return Guard(call=breaker.call, rejection=interlock.CircuitOpenError)


def _interlock_redis(name: str, url: str) -> Guard:
    import interlock
    from interlock.integrations.redis import RedisStorage

    breaker = interlock.CircuitBreaker(
        name=name, config=interlock.Config(wait_duration_in_open=STAYS_OPEN), storage=RedisStorage(connect(url))
    )
    return Guard(call=breaker.call, rejection=interlock.CircuitOpenError)


def _status(name: str, url: str) -> Guard:
    from breaker import queries

    for number in range(12):
        breaker = our_breaker(f"{name}-{number}", url)
        for _ in range(100):
            breaker.call(answer)
    return Guard(call=lambda func: queries.status().as_dict())


def _status_alone(name: str, url: str) -> Guard:
    return _status(name, "")


MAKERS: dict[str, Callable[[str, str], Guard]] = {
    UNGUARDED: _unguarded,
    ROUND_TRIP: _round_trip,
    OURS: _ours,
    OURS_ALONE: _ours_alone,
    PYBREAKER: _pybreaker,
    PYBREAKER_REDIS: _pybreaker_redis,
    INTERLOCK: _interlock,
    INTERLOCK_REDIS: _interlock_redis,
    STATUS: _status,
    STATUS_ALONE: _status_alone,
}
"""Name to what makes it, given the breaker's name and the address of the one Redis."""


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5)


def our_breaker(name: str, url: str, **options: Any) -> Any:
    """A breaker from the registry, over the connection that production's settings make; without `url` in memory."""
    _configure_django(url)
    from breaker.registry import create_circuit_breaker, registry

    guarded = create_circuit_breaker(name=name, **{"reset_timeout": STAYS_OPEN, **options})
    registry.start()
    return guarded.breaker


def _configure_django(url: str) -> None:
    import django
    from django.conf import settings

    from config import addresses

    if settings.configured:
        return
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "breaker"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        CACHES={"breaker": addresses.redis_cache(url, None, None)} if url else {},
        BREAKER={"NAMESPACE": "bench"},
        USE_TZ=True,
    )
    django.setup()


def _call_rejected() -> type[Exception]:
    from breaker.engine.circuit import CallRejected

    return CallRejected

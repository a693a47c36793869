"""The one path of every call to MIFOS: bulkhead, circuit, client, and what the answer means for the caller."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

from django.core.signals import setting_changed

from breaker import otel
from breaker.engine.circuit import CallRejected, SharedCircuitBreaker
from breaker.engine.window import Outcome
from breaker.fallbacks import Fallback, parted
from breaker.registry import Labels, create_circuit_breaker
from mifos_gateway import conf, fallbacks, resources
from mifos_gateway.bulkhead import Bulkhead
from mifos_gateway.cache_control import UNSAID, CacheControl
from mifos_gateway.client import MifosClient
from mifos_gateway.errors import (
    AcceptanceUnknown,
    CredentialsRejected,
    GatewayError,
    MifosFailed,
    MifosTimeout,
    MifosUnavailable,
    classify,
    raise_if_credentials_rejected,
)
from mifos_gateway.refusals import NotCached, ServiceUnavailable
from mifos_gateway.tallies import count_rejected_credentials

if TYPE_CHECKING:
    import requests

    from mifos_gateway.cached import Cached
    from mifos_gateway.kept import Visit
    from mifos_gateway.outbox.intake import Write

log = logging.getLogger("gateway")

User = Literal["maker", "checker"]
USERS: tuple[User, ...] = get_args(User)
# A breaker per verb: reads may fail while writes work. Whatever else there is, HEAD above all, goes through `request`.
KEYS = ("get", "post", "put", "patch", "delete", "request")
NAMES = {(user, key): f"MIFOS-{user.capitalize()}-{key}" for user in USERS for key in KEYS}


@dataclass(frozen=True, slots=True)
class Call:
    """One call to MIFOS; `target` is path and query as they go on the wire."""

    user: User
    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cache_control: CacheControl = UNSAID
    """What the caller says of answers that were kept."""
    visit: Visit | None = None
    """What is kept of it, once somebody has looked."""
    write: Write | None = None
    """What is known of it besides, when it writes and may be deferred."""

    @property
    def breaker(self) -> str:
        """The name of the one that guards it."""
        return NAMES[self.user, self.key]

    @property
    def key(self) -> str:
        key = self.method.lower()
        return key if key in KEYS else "request"


class Sender(Protocol):
    """What the guard needs of the client."""

    def send(
        self, user: User, method: str, target: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> requests.Response: ...


class Guard:
    """The breakers, a bulkhead for each technical user, and the client behind them."""

    def __init__(
        self, client: Sender, *, breakers: Mapping[tuple[str, str], SharedCircuitBreaker], places: int
    ) -> None:
        self._client = client
        self._breakers = breakers
        self._bulkheads = {user: Bulkhead(places) for user in USERS}

    def call(self, call: Call, *, fallback: Fallback | None = None) -> requests.Response:
        """MIFOS's answer, whatever its status but 401; or the fallback's, whose `provenance` says so.

        `fallback`: instead of what the settings say. Raises ServiceUnavailable when the call is rejected, else what
        `errors.py` draws.
        """
        instead = fallback if fallback is not None else fallbacks.configured(call)
        keeper, seconds = fallbacks.keeper(call, instead)
        if keeper is None:
            if call.cache_control.only_if_cached and call.method in resources.READS:
                raise NotCached
            return self._answered(call, instead)
        call = keeper.looked_up(call)
        if (kept := keeper.at_once(call)) is not None:
            return kept
        return self._answered(call, instead, keeper, seconds)

    def _answered(
        self, call: Call, instead: Fallback | None, keeper: Cached | None = None, seconds: float = 0
    ) -> requests.Response:
        if instead is None:
            return self._call(call)
        error: GatewayError
        try:
            answer = self._call(keeper.asking(call) if keeper else call)
            if _classify(answer, None) is not Outcome.FAILURE:
                return keeper.settled(call, answer, seconds=seconds) if keeper else answer
            error = MifosFailed(answer)
        except (ServiceUnavailable, MifosUnavailable, MifosTimeout) as raised:
            error = raised
        return self._instead(call, instead, error)

    def _instead(self, call: Call, instead: Fallback, error: GatewayError) -> requests.Response:
        breaker = self._breakers[call.user, call.key]
        rejected = isinstance(error, ServiceUnavailable)
        try:
            answer, faults = fallbacks.answer(instead, call, error, rejected=rejected)
        except Exception as fault:
            if fault is not error:
                breaker.tell_fallback_failed(fault)
            if isinstance(fault, AcceptanceUnknown):
                raise  # the original would say that nothing was sent, nor will be
            if isinstance(error, MifosFailed):
                return cast("requests.Response", error.answer)
            raise error from (parted(fault, error) if fault is not error else error.__cause__)
        for failed in faults:
            breaker.tell_fallback_failed(failed)
        breaker.count_fallback(rejected=rejected)
        return answer

    def _call(self, call: Call) -> requests.Response:
        breaker = self._breakers[call.user, call.key]
        bulkhead = self._bulkheads[call.user]
        if not bulkhead.enter():
            raise _no_place(breaker)
        try:
            answer: Any = breaker.call(self._send, call, breaker.policy.timeout)
        except CallRejected as rejected:
            raise _unavailable(rejected) from rejected
        finally:
            bulkhead.leave()
        self._tell_if_credentials_rejected(answer, call.user)
        answer.provenance = fallbacks.MIFOS
        answer.headers.pop(fallbacks.HEADER, None)  # of MIFOS's it would be a lie
        return cast("requests.Response", answer)

    def renew_after_fork(self) -> None:
        for bulkhead in self._bulkheads.values():
            bulkhead.renew()

    def _send(self, call: Call, timeout: float) -> requests.Response:
        def send() -> requests.Response:
            return self._client.send(
                call.user, call.method, call.target, headers=call.headers, body=call.body, timeout=timeout
            )

        return fallbacks.sent(call, send)

    def _tell_if_credentials_rejected(self, answer: requests.Response, user: User) -> None:
        try:
            raise_if_credentials_rejected(answer, user=user)
        except CredentialsRejected:
            mifos = conf.mifos()
            name, tenant = mifos.get(f"{user.upper()}_USERNAME"), mifos.get("TENANT_ID")
            count_rejected_credentials(user)
            log.error("MIFOS rejects the %s user %r of tenant %r: check its password and rights", user, name, tenant)
            raise


def make_breakers() -> dict[tuple[str, str], SharedCircuitBreaker]:
    """The twelve, from `MIFOS-Maker-get` to `MIFOS-Checker-request`; their options come from the settings."""
    return {(user, key): _make_breaker(user, key) for user in USERS for key in KEYS}


def current() -> Guard:
    """This process's guard, made at the first call."""
    global _current
    if _current is None:
        with _making:
            if _current is None:
                _current = _kind()(
                    MifosClient(conf.client_config()), breakers=make_breakers(), places=conf.gateway().bulkhead
                )
    return _current


def _kind() -> type[Guard]:
    if not otel.is_on():
        return Guard
    from mifos_gateway.otel import TracedGuard

    return TracedGuard


_current: Guard | None = None
_making = threading.Lock()


def _make_breaker(user: User, key: str) -> SharedCircuitBreaker:
    return create_circuit_breaker(
        name=NAMES[user, key],
        labels=Labels(service="MIFOS", group=user, key=key),
        own=True,
        classify=_classify,
        **conf.breaker_defaults(),
    ).breaker


def _classify(answer: requests.Response | None, error: BaseException | None) -> Outcome:
    return classify(answer, error, rules=conf.outcome_rules())


def _no_place(breaker: SharedCircuitBreaker) -> ServiceUnavailable:
    rejected = breaker.refuse("bulkhead")
    if breaker.current_state == "open":
        # Calls from before it opened still hang in all places; a second would not do.
        return ServiceUnavailable(breaker=breaker.name, reason="open", retry_after=breaker.retry_after)
    return _unavailable(rejected)


def _unavailable(rejected: CallRejected) -> ServiceUnavailable:
    return ServiceUnavailable(breaker=rejected.breaker, reason=rejected.reason, retry_after=rejected.retry_after)


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    if _current is not None:
        _current.renew_after_fork()


def _forget(*, setting: str, **_: object) -> None:
    global _current
    if setting in ("MIFOS", "GATEWAY", "BREAKER"):
        _current = None


os.register_at_fork(after_in_child=_after_fork)
setting_changed.connect(_forget)

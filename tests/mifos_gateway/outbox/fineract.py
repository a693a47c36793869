"""A MIFOS that keeps its keys as Fineract does, with everything that may befall a call to it.

A command is known by action, entity and key alone. What a call that brings a new key comes to is its `deed`; what
befalls it on the way is its `fate`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import requests

from breaker.engine.circuit import CallRejected
from breaker.engine.policy import Policy
from mifos_gateway.errors import MifosTimeout, MifosUnavailable, ResponseTooLarge
from tests.mifos_gateway.conftest import mifos_answer

Deed = Literal[
    *("done", "awaiting", "conflict", "refused", "business 503", "failed", "done, failed", "stuck", "slow"),
    *("locked", "scheduler", "throttled", "401", "not authorized", "read only", "no tenant", "404 first"),
]
DEEDS: list[Deed] = [
    *("done", "awaiting", "conflict", "refused", "business 503", "failed", "done, failed", "stuck", "slow"),
    *("locked", "scheduler", "throttled", "401", "not authorized", "read only", "no tenant", "404 first"),
]
Fate = Literal["answered", "lost", "never came", "comes late", "not sent", "rejected", "504", "502", "too large", "408"]
FATES: list[Fate] = [
    *("answered", "lost", "never came", "comes late", "not sent", "rejected", "504", "502", "too large", "408"),
]
PURGED_AFTER = timedelta(days=30)
_PROXY = {"Content-Type": "text/html"}


def _refusal(status: int, code: str) -> requests.Response:
    top = {"userMessageGlobalisationCode": "error.msg", "errors": [{"userMessageGlobalisationCode": code}]}
    return mifos_answer(status, top)


def _before_the_command(deed: Deed) -> requests.Response | None:
    """What is answered before there is a row for the command, whatever its key."""
    match deed:
        case "locked":
            return _refusal(409, "error.msg.loan.locked")
        case "scheduler":
            return _refusal(503, "error.msg.sheduler.job.currently.running")
        case "throttled":
            return mifos_answer(429, b"slow down", _PROXY)
        case "401":
            return mifos_answer(401, b"{}")
        case "not authorized":
            return _refusal(403, "error.msg.not.authorized")
        case "read only":
            return _refusal(405, "error.msg.invalid.instance.type")
        case "no tenant":
            return mifos_answer(400, b"<html>", _PROXY)
        case "404 first":
            return _refusal(404, "error.msg.loan.external.id.invalid")
    return None


@dataclass
class Command:
    """A row of m_portfolio_command_source."""

    state: Literal["UNDER_PROCESSING", "PROCESSED", "ERROR", "AWAITING_APPROVAL"]
    made_at: datetime
    status: int = 0
    content: bytes = b""


@dataclass(frozen=True)
class Request:
    """What has come in."""

    entry: tuple[str, str, str]
    ident: str
    deed: Deed
    begun: bool = False


@dataclass
class Fineract:
    """`deed` and `fate` are those of the next call; `now` is the machine's clock."""

    now: Any
    deed: Deed = "done"
    fate: Fate = "answered"
    commands: dict[tuple[str, str, str], Command] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    """Of which requests, in order; one that waits for its checker counts as well."""
    late: list[Request] = field(default_factory=list)
    """Those that still stand in a queue, and those it works at."""
    seen: Counter[str] = field(default_factory=Counter)
    on_effect: Any = None

    # -- as the client is seen -----------------------------------------------------------------------------------------

    def send(self, user: str, method: str, target: str, **more: Any) -> requests.Response:
        self.seen[f"{self.fate}"] += 1
        ident = json.loads(more["body"])["ident"]
        key = more["headers"].get("Idempotency-Key") or f"made by MIFOS for {ident}, {len(self.seen)}"
        request = Request((method, _entity(target), key), ident, self.deed)
        match self.fate:
            case "not sent":
                raise MifosUnavailable("It refuses connections.", sent=False)
            case "never came":
                raise MifosUnavailable("The connection broke.", sent="unknown")
            case "502":
                return mifos_answer(502, b"<html>", _PROXY)
            case "comes late":
                self.late.append(request)
                raise MifosTimeout("Too slow.", sent="unknown")
        answer = self._handled(request)
        match self.fate:
            case "lost":
                raise MifosTimeout("Too slow.", sent="unknown")
            case "504" | "408":
                return mifos_answer(int(self.fate), b"<html>", _PROXY)
            case "too large" if answer.status_code == 200:
                raise ResponseTooLarge("Too large.", sent="unknown")
        return answer

    # -- inside --------------------------------------------------------------------------------------------------------

    def works_off(self, which: int) -> None:
        """One of those that stood in a queue: nobody waits for its answer."""
        if not self.late:
            return
        request = self.late.pop(which % len(self.late))
        if request.begun:
            self._finish(request, self.commands[request.entry], 200, b'{"resourceId": 1}')
            return
        with contextlib.suppress(MifosTimeout):  # it begins now, and is slow
            self._handled(request)

    def works_all_off(self) -> None:
        while self.late:
            self.works_off(0)

    def purges(self) -> None:
        """Purge Processed Commands: it forgets those alone that went well."""
        old = self.now() - PURGED_AFTER
        for entry, command in list(self.commands.items()):
            if command.state == "PROCESSED" and command.made_at < old:
                del self.commands[entry]
                self.seen["key forgotten"] += 1

    def _handled(self, request: Request) -> requests.Response:
        early = _before_the_command(request.deed)
        if early is not None:
            self.seen[request.deed] += 1
            return early
        known = self.commands.get(request.entry)
        if known is not None:
            return self._again(known)
        self.seen[request.deed] += 1
        command = self.commands[request.entry] = Command("UNDER_PROCESSING", self.now())
        match request.deed:
            case "done":
                return self._finish(request, command, 200, b'{"resourceId": 1}')
            case "awaiting":
                self._effect(request)
                command.state = "AWAITING_APPROVAL"
                return mifos_answer(200, {"commandId": 1, "rollbackTransaction": True})
            case "slow":
                self.late.append(replace(request, begun=True))
                raise MifosTimeout("Too slow.", sent="unknown")
            case "done, failed":  # an error after its effect was committed, and recorded
                self._effect(request)
            case "stuck":  # its effect is committed, and its result could not be
                self._effect(request)
                return _refusal(500, "error.msg.platform.server.side.error")
        refusal = {
            "conflict": lambda: _refusal(409, "error.msg.platform.service.loan.conflict"),
            "refused": lambda: _refusal(403, "validation.msg.domain.rule.violation"),
            "business 503": lambda: _refusal(503, "error.msg.savingsaccount.account.trasaction.x.notallowed"),
        }.get(request.deed, lambda: _refusal(500, "error.msg.platform.server.side.error"))()
        command.state, command.status, command.content = "ERROR", refusal.status_code, refusal.content
        return refusal

    def _finish(self, request: Request, command: Command, status: int, content: bytes) -> requests.Response:
        self._effect(request)
        command.state, command.status, command.content = "PROCESSED", status, content
        return mifos_answer(status, content)

    def _again(self, command: Command) -> requests.Response:
        self.seen[f"again: {command.state}"] += 1
        cached = {"Content-Type": "application/json", "x-served-from-cache": "true"}
        if command.state in ("PROCESSED", "ERROR"):
            return mifos_answer(command.status, command.content, cached)
        return mifos_answer(425, b"{}", cached)

    def _effect(self, request: Request) -> None:
        if self.on_effect is not None:
            self.on_effect(request.ident)
        self.effects.append(request.ident)


def _entity(target: str) -> str:
    """MIFOS compares no resource id: `loans/5` and `loans/6` are one entity."""
    return re.sub(r"/[0-9]+", "", target)


class Breaker:
    """A circuit that rejects when the schedule says so."""

    current_state = "closed"
    retry_after = 1

    def __init__(self, name: str, mifos: Fineract) -> None:
        self.name, self.mifos, self.policy = name, mifos, Policy()

    def call(self, func: Any, *args: Any) -> Any:
        if self.mifos.fate == "rejected":
            self.mifos.seen["rejected"] += 1
            raise CallRejected(self.name, "open", 1)
        return func(*args)

    def count_fallback(self, *, rejected: bool) -> None: ...

    def tell_fallback_failed(self, fault: Exception) -> None:
        raise fault

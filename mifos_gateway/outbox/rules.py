"""Which writes may be deferred: those the settings name, and of them only what MIFOS does not do twice.

`settings.GATEWAY["DEFERRED_ROUTES"]` maps rules to seconds or to `Deferred(...)`. A rule is `METHOD pattern`, as those
that deny; its pattern may end in `?command=…`. To name a route says that MIFOS honours keys there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from django.core.signals import setting_changed

from mifos_gateway import conf, resources
from mifos_gateway.deferred import Deferred
from mifos_gateway.resources import READS
from mifos_gateway.routes import RouteError, Rule, Rules, gettext_noop
from mifos_gateway.targets import Target

APPROVE = "approve"

# FINERACT: no command row, hence no key: uploads, batches' outer request, what checkers do, jobs, surveys, second
# factors. And those that newer releases have moved to where keys are not looked at (apache/fineract#6231).
UNKEYED = (
    *("batches*", "makercheckers*", "jobs*", "scheduler*", "loans/catch-up*", "datatables/deregister/*"),
    *("survey*", "twofactor*", "*images*", "*documents*", "*uploadtemplate*"),
    *("staff*", "standinginstructions*", "paymenttypes*", "businessdate*", "taxes*"),
)
_UNKEYED = Rules(f"* {pattern}" for pattern in UNKEYED)
_COMMAND = re.compile(r"\?command=([A-Za-z-]+)$")
_TRIMMED = "".join(map(chr, range(33)))
"""What Java's `trim` takes away: Fineract compares commands without it."""
_METHOD = gettext_noop("%(rule)s begins with a method that writes nothing; write 'POST clients' or 'PUT loans/*'")
_QUERY = gettext_noop(
    "%(rule)s may end in one ?command=…, and in no other query; write 'POST loans/*?command=disburse'"
)


@dataclass(frozen=True, slots=True)
class DeferredRule:
    """`METHOD pattern[?command=…]`."""

    routes: Rules
    command: str

    @classmethod
    def parse(cls, text: str) -> DeferredRule:
        """Raises RouteError."""
        found = _COMMAND.search(text.strip())
        plain = text.strip()[: found.start()] if found else text
        if "=" in plain:
            raise RouteError(_QUERY, text)
        rule = Rule.parse(plain)
        if rule.method in READS:
            raise RouteError(_METHOD, text)
        return cls(Rules([str(rule)]), found[1] if found else "")

    def match(self, method: str, target: Target, command: str) -> bool:
        if not self.routes.match(method, target.path):
            return False
        return command == self.command if self.command or command.lower() == APPROVE else True


def deferred_of(method: str, target: Target, *, content_type: str = "") -> Deferred | None:
    """What the settings say of deferring such a write; None: it is not to be."""
    commands = commands_of(target)
    if len(commands) > 1 or not is_write(method, target):  # of several MIFOS takes one, and nobody knows which
        return None
    command = commands[0] if commands else ""
    for rule, deferred in _configured():
        if rule.match(method, target, command):
            return deferred if deferred.safe or honours_keys(target, content_type) else None
    return None


def allows(deferred: Deferred, method: str, target: Target, *, content_type: str = "") -> bool:
    """Whether a strategy that was given for a call or its breaker, and for no route, may take it."""
    commands = [command.lower() for command in commands_of(target)]
    if APPROVE in commands or len(commands) > 1 or not is_write(method, target):
        return False
    return deferred.safe or honours_keys(target, content_type)


def is_write(method: str, target: Target) -> bool:
    return resources.writes(method, target.path, target.query)


def honours_keys(target: Target, content_type: str) -> bool:
    return not content_type.lower().startswith("multipart/") and not _UNKEYED.match("POST", target.path)


def never_honours_keys(rule: str) -> bool:
    """Whether all that a rule could name is where MIFOS looks at no keys."""
    return _UNKEYED.match("POST", Rule.parse(rule.partition("?")[0]).pattern.rstrip("*/"))


def any_named() -> bool:
    return bool(_configured())


def commands_of(target: Target) -> list[str]:
    query = parse_qsl(target.query, keep_blank_values=True)
    return [value.strip(_TRIMMED) for name, value in query if name.strip(_TRIMMED).lower() == "command"]


def route(given: Any) -> Deferred:
    """What `DEFERRED_ROUTES` says of a rule: seconds, a strategy, or None for an hour. Raises ValueError."""
    return given if isinstance(given, Deferred) else Deferred(given)


def by_rule(given: Any) -> Mapping[str, Any]:
    """`DEFERRED_ROUTES`, which may be a list of rules alone."""
    return given if isinstance(given, Mapping) else dict.fromkeys(given)


@cache
def _configured() -> list[tuple[DeferredRule, Deferred]]:
    return [(DeferredRule.parse(text), route(value)) for text, value in by_rule(conf.gateway().deferred_routes).items()]


def _forget(*, setting: str, **_: object) -> None:
    if setting == "GATEWAY":
        _configured.cache_clear()


setting_changed.connect(_forget)

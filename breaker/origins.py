"""Where each option of a breaker comes from, in words."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from breaker import conf
from breaker.engine.policy import Policy
from breaker.queries import Entry
from breaker.registry import registry

LABELS = {
    "timeout": gettext_lazy("A call may take"),
    "error_threshold_percentage": gettext_lazy("Opens above an error rate of"),
    "volume_threshold": gettext_lazy("Opens from"),
    "reset_timeout": gettext_lazy("A trial follows after"),
    "half_open_max_calls": gettext_lazy("Trials at once"),
    "rolling_count_timeout": gettext_lazy("Judges by the last"),
    "rolling_count_buckets": gettext_lazy("Which has slices"),
    "capacity": gettext_lazy("Calls at once in one process"),
    "rolling_percentiles_enabled": gettext_lazy("Keeps latencies"),
    "enabled": gettext_lazy("Guards its calls"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    option: str
    label: Any
    value: str
    """With its unit."""
    origin: str
    is_default: bool = False


def origins(entry: Entry) -> list[Setting]:
    """Every option of a breaker with its origin; behind them what an operator forced."""
    defaults = Policy()
    found = [_setting(entry, option, getattr(defaults, option)) for option in LABELS]
    if entry.forced:
        origin = _operator(entry, "open", "close")
        found.append(Setting(option="force", label=_("Forced"), value=entry.forced, origin=origin))
    return found


def _setting(entry: Entry, option: str, default: Any) -> Setting:
    value = getattr(entry.policy, option)
    origin = _origin(entry, option, value, default)
    if option == "enabled" and is_switched(entry):
        value, origin = entry.enabled, _operator(entry, "enable", "disable")
    return Setting(
        option=option,
        label=LABELS[option],
        value=_with_unit(option, value),
        origin=origin or _("default"),
        is_default=not origin,
    )


def _origin(entry: Entry, option: str, value: Any, default: Any) -> str:
    """Nothing for the default."""
    given, origin = _given(entry, option)
    if given == value:
        return origin
    if entry.name not in registry.circuits:  # its process has settings of its own
        return "" if value == default else _("the process that made it")
    return "" if value == default else _("code")


def _given(entry: Entry, option: str) -> tuple[Any, str]:
    """What this process's settings say of an option, and where; the strongest first."""
    for key in (entry.name, entry.labels.group):
        options = conf.breakers().get(key, {})
        if option in options:
            source = conf.breakers_from()
            where = _("environment, %s") % source if source else _('settings, BREAKER["BREAKERS"]')
            return options[option], _("%(where)s, of %(key)s") % {"where": where, "key": key}
    defaults, source_of = conf.defaults(), conf.defaults_from()
    if entry.name in registry.own and option in defaults:
        if source_of is None:
            return defaults[option], _('settings, BREAKER["DEFAULTS"]')
        return defaults[option], _("environment, %s") % source_of[option] if option in source_of else ""
    return None, ""


def is_switched(entry: Entry) -> bool:
    """Whether an operator has turned the guard on or off, whatever the options say."""
    snapshot = entry.snapshot
    return snapshot.switch is not None and (snapshot.switch_until is None or entry.now < snapshot.switch_until)


def _operator(entry: Entry, *actions: str) -> str:
    """Who did it, where that was the last act."""
    said = entry.snapshot.acted
    if said.get("action") not in actions or not said.get("actor"):
        return _("an operator")
    return _("operator %(actor)s: %(reason)s") % {"actor": said["actor"], "reason": said.get("reason", "")}


def _with_unit(option: str, value: Any) -> str:
    match option:
        case "timeout" | "reset_timeout" | "rolling_count_timeout":
            return f"{value:g} s"
        case "error_threshold_percentage":
            return f"{value:g} %"
        case "volume_threshold":
            return str(ngettext("%d call", "%d calls", value) % value)
        case "capacity":
            return _("no limit") if value is None else str(value)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(value)


assert LABELS.keys() == {field.name for field in dataclasses.fields(Policy)}

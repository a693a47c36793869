"""What the admin asks an operator before an act: why, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from datetime import timezone as zone
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from breaker.operations import LONGEST_REASON, LONGEST_SECONDS, TITLES
from breaker.queries import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One of the acts, in words."""

    title: Any
    means: Any
    lasts: str = ""
    """What is proposed for its duration; "" where it has none."""
    warns: bool = False


ACTS = {
    "reset": Kind(
        title=TITLES["reset"],
        means=_("The breaker closes and counts afresh. What operators forced or disabled is lifted."),
    ),
    "open": Kind(
        title=TITLES["open"],
        means=_("Every call is rejected at once, and no trial is made, until the force ends."),
        lasts="released",
    ),
    "close": Kind(
        title=TITLES["close"],
        means=_(
            "Every call goes through, also while all of them fail. The breaker protects nobody until the force ends."
        ),
        lasts="3600",
        warns=True,
    ),
    "release": Kind(
        title=TITLES["release"],
        means=_("The force is lifted. The breaker closes, counts afresh and judges by itself."),
    ),
    "disable": Kind(
        title=TITLES["disable"],
        means=_(
            "Calls pass unguarded, without timeout, limit or judgement, until it is enabled. They are still counted."
        ),
        lasts="3600",
        warns=True,
    ),
    "enable": Kind(
        title=TITLES["enable"],
        means=_(
            "The breaker guards its calls again, also where its options say otherwise. "
            "It closes, also if it was open, and counts afresh."
        ),
        lasts="released",
    ),
}
_ALREADY = {
    "open": _("is forced open already"),
    "close": _("is forced closed already"),
    "release": _("has nothing to release"),
    "disable": _("is disabled already"),
    "enable": _("is enabled already"),
}


def note(action: str, entry: Entry) -> str:
    """What an operator should know of this breaker before the act: that it is so already, or closes what is open."""
    is_so = {
        "open": entry.forced == "open",
        "close": entry.forced == "closed",
        "release": not entry.forced,
        "disable": not entry.enabled,
        "enable": entry.enabled,
    }
    said = [str(_ALREADY[action])] if is_so.get(action) else []
    if action in ("release", "enable") and entry.computed_state != "CLOSED":
        said.append(gettext("closes, though by itself it is %s") % entry.computed_state.replace("_", "-"))
    return "; ".join(said)


DURATIONS = {
    "300": _("for 5 minutes"),
    "3600": _("for 1 hour"),
    "time": _("until a time"),
    "released": _("until released"),
}


class ReasonForm(forms.Form):
    """What is asked before any act: why."""

    reason = forms.CharField(
        label=_("Why"),
        widget=forms.Textarea(attrs={"rows": 2, "autofocus": True}),
        max_length=LONGEST_REASON,
        help_text=_("For those who read it later."),
        error_messages={"required": _("Say why, for those who read it later.")},
    )


class ActForm(ReasonForm):
    """`cleaned_data` has reason, for_seconds (None: until released) and how_long, the same in words."""

    lasts = forms.ChoiceField(label=_("How long"), choices=list(DURATIONS.items()), widget=forms.RadioSelect)
    until = forms.DateTimeField(
        label=_("Until (UTC)"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
    )
    offset = forms.IntegerField(
        required=False,
        min_value=1 - 24 * 60,
        max_value=24 * 60 - 1,
        widget=forms.HiddenInput(attrs={"data-offset": ""}),
    )
    """Minutes from the operator's time to UTC; a script sets it, and says so beside the field."""

    def __init__(self, *args: Any, action: str, **more: Any) -> None:
        super().__init__(*args, **more)
        if ACTS[action].lasts:
            self.fields["lasts"].initial = ACTS[action].lasts
        else:
            for name in ("lasts", "until", "offset"):
                del self.fields[name]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        lasts = given.get("lasts")
        given |= {"for_seconds": None, "how_long": ""}
        if lasts == "time":
            self._clean_time(given)
        elif lasts:
            given["for_seconds"] = None if lasts == "released" else float(lasts)
            given["how_long"] = str(DURATIONS[lasts])
        return given

    def _clean_time(self, given: dict[str, Any]) -> None:
        if "until" in self.errors:
            return
        if not given.get("until"):
            self.add_error("until", _("Say until when."))
            return
        there = zone(-timedelta(minutes=given.get("offset") or 0))
        until = given["until"].replace(tzinfo=there)
        seconds = (until - timezone.now()).total_seconds()
        if seconds <= 0:
            self.add_error("until", _("That time has passed."))
        elif seconds > LONGEST_SECONDS:
            self.add_error("until", _("At most 366 days."))
        else:
            given |= {"for_seconds": seconds, "how_long": gettext("until %s") % f"{until:%Y-%m-%d %H:%M %Z}"}

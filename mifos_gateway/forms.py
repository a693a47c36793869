"""What people fill in about consumers and their tokens, and before they act on deferred requests."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from breaker.acting import ReasonForm
from mifos_gateway.models import Consumer
from mifos_gateway.routes import RouteError, Rules
from mifos_gateway.tokens import PERMISSIONS

SCOPES = (
    ("maker", _("maker: call MIFOS as the maker")),
    ("checker", _("checker: call MIFOS as the checker")),
    ("view", _("view: see breakers with who did what and why")),
    ("operate", _("operate: act on breakers, and see them")),
)
KEEP, LATER, AT_ONCE = "keep", "later", "at once"


def withheld(user: Any, scopes: Iterable[str]) -> list[str]:
    """Of these scopes those that a person may not hand out, for lack of the permission on breakers."""
    lacking = {scope: permission for permission, scope in PERMISSIONS.items() if not user.has_perm(permission)}
    if "operate" not in lacking:  # it includes `view`
        return []
    return [f"{scope} ({lacking[scope]})" for scope in scopes if scope in lacking]


class Lifetime(forms.Form):
    """How long a new token is good."""

    days = forms.IntegerField(
        label=_("Expires after days"),
        min_value=1,
        max_value=3650,
        required=False,
        help_text=_("Empty: the token does not expire."),
    )

    def expires_at(self) -> datetime | None:
        days = self.cleaned_data.get("days")
        return timezone.now() + timedelta(days=days) if days else None


class RightsForm(forms.ModelForm):  # type: ignore[type-arg]
    """A consumer's scopes and rules, one rule a line. Whose form it is, `user` says."""

    user: Any = None
    scopes = forms.MultipleChoiceField(
        label=_("Scopes"), choices=SCOPES, widget=forms.CheckboxSelectMultiple, required=False
    )
    allow = forms.CharField(
        label=_("Allowed routes"),
        widget=forms.Textarea(attrs={"rows": 6, "cols": 60}),
        required=False,
        help_text=_("One rule a line, such as GET clients/*. Empty: all routes that are not denied to everybody."),
    )

    class Meta:
        model = Consumer
        fields = ("scopes", "allow")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["allow"] = "\n".join(self.instance.allow)

    def clean_scopes(self) -> list[str]:
        wanted: list[str] = self.cleaned_data["scopes"]
        if refused := withheld(self.user, [scope for scope in wanted if scope not in self.instance.scopes]):
            said = _("Only who has the permission himself may give the scope: %(scopes)s.")
            raise forms.ValidationError(said, params={"scopes": ", ".join(refused)})
        return wanted

    def clean_allow(self) -> list[str]:
        try:
            return [str(rule) for rule in Rules(filter(str.strip, self.cleaned_data["allow"].splitlines())).rules]
        except RouteError as error:
            raise forms.ValidationError(_(error.message), params={"rule": repr(error.rule)}) from None


class NewConsumerForm(Lifetime, RightsForm):
    class Meta(RightsForm.Meta):
        fields = ("name", "scopes", "allow")  # type: ignore[assignment]


class RotationForm(Lifetime):
    """One more token, and what becomes of the older ones."""

    older = forms.ChoiceField(
        label=_("Older tokens"),
        choices=((KEEP, _("stay as they are")), (LATER, _("end after the hours below")), (AT_ONCE, _("end at once"))),
        widget=forms.RadioSelect,
        initial=KEEP,
        help_text=_("An end takes up to 10 s to be known everywhere."),
    )
    hours = forms.IntegerField(label=_("Hours"), min_value=1, max_value=8760, required=False, initial=24)
    seen = forms.CharField(widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or {}
        if found.get("older") == LATER and not found.get("hours") and "hours" not in self.errors:
            self.add_error("hours", _("Say after how many hours the older tokens end."))
        return found

    def older_end_at(self) -> datetime | None:
        hours = {KEEP: None, LATER: self.cleaned_data["hours"], AT_ONCE: 0}[self.cleaned_data["older"]]
        return None if hours is None else timezone.now() + timedelta(hours=hours)

    def older_in_words(self) -> str:
        hours = self.cleaned_data["hours"]
        return {KEEP: "kept", LATER: f"end in {hours} h", AT_ONCE: "ended"}[self.cleaned_data["older"]]


class DeferredActForm(ReasonForm):
    """`cleaned_data` has reason and new_key, as `desk.retry` takes it."""

    KEYS = (
        ("fits", _("as fits each: a new one for what MIFOS has rejected, else the same")),
        ("new", _("a new one for all: I have looked in MIFOS, and nothing was done")),
        ("same", _("the same for all: MIFOS repeats what it has recorded under it")),
    )
    key = forms.ChoiceField(
        label=_("Idempotency key that MIFOS gets"), choices=KEYS, initial="fits", widget=forms.RadioSelect
    )

    def __init__(self, *args: Any, action: str, **more: Any) -> None:
        super().__init__(*args, **more)
        if action != "retry":
            del self.fields["key"]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        return given | {"new_key": {"new": True, "same": False}.get(given.get("key", ""))}

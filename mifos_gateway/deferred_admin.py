"""Deferred requests in the admin: to see, and to decide upon with a reason; and what they hold, for few, noted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import truncatechars
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_safe

from breaker import django_log
from breaker.admin import OfThisGateway
from breaker.operations import ActRefused
from breaker.templatetags.breaker_times import moment, since
from mifos_gateway import deferred_line, guard
from mifos_gateway.forms import DeferredActForm
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import acts, clock, desk, payload
from mifos_gateway.outbox.acts import Done

MOST = 200
"""Requests that are acted on at once."""
ATTEMPTS = 100
"""That a page shows; the newest."""
PAYLOAD = "mifos_gateway.view_payload"
NONE = "-"

MEANS = {
    "retry": gettext_lazy(
        "They are queued again for a new time to live, and sent as soon as their order and the circuit let them."
    ),
    "cancel": gettext_lazy("They are not sent (again), and those behind them in their order go on."),
    "release": gettext_lazy(
        "Those behind it in its order go on without it, as if it had been done or were not needed. It can still be "
        "sent again, or cancelled."
    ),
}


# -- filters -----------------------------------------------------------------------------------------------------------


class Choice(admin.SimpleListFilter):
    """One of some values that are known without asking the table; what is unknown counts as not said."""

    choices_there_are: dict[str, Any]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(self.choices_there_are.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return self.chosen(queryset, value) if value in self.choices_there_are else queryset

    def chosen(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        return rows.filter(**{self.parameter_name or "": value})


class StatusFilter(Choice):
    title, parameter_name = gettext_lazy("status"), "status"
    groups = {  # noqa: RUF012 - a constant
        "waiting": (gettext_lazy("waits (queued or being sent)"), desk.WAITING_ONES),
        "blocking": (gettext_lazy("holds up its order"), desk.BLOCKING),
    }
    choices_there_are = {  # noqa: RUF012 - a constant
        **{name: text for name, (text, _q) in groups.items()},
        **dict(DeferredRequest.Status.choices),
    }

    def chosen(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        return rows.filter(self.groups[value][1]) if value in self.groups else super().chosen(rows, value)


class AgeFilter(Choice):
    title, parameter_name = gettext_lazy("accepted"), "age"
    choices_there_are = {  # noqa: RUF012 - a constant
        "300": gettext_lazy("more than 5 minutes ago"),
        "3600": gettext_lazy("more than 1 hour ago"),
        "86400": gettext_lazy("more than 1 day ago"),
        "604800": gettext_lazy("more than 7 days ago"),
    }

    def chosen(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        return rows.filter(created_at__lt=clock.now() - timedelta(seconds=int(value)))


class ClientFilter(Choice):
    title, parameter_name = gettext_lazy("client"), "client"
    choices_there_are = {user: user for user in guard.USERS}  # noqa: RUF012 - a constant


class BreakerFilter(Choice):
    title, parameter_name = gettext_lazy("breaker"), "breaker"
    choices_there_are = {name: name for name in guard.NAMES.values()}  # noqa: RUF012 - a constant


class Numbered(ChangeList):
    """Positions and attempts are counted for the rows of one page, at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        counted = desk.with_numbers(desk.of_namespace().filter(pk__in=[row.pk for row in rows]))
        numbers = {pk: (place, tries) for pk, place, tries in counted.values_list("pk", "place", "tries")}
        for row in rows:
            row.place, row.tries = numbers.get(row.pk, (None, 0))
        self.result_list = rows


# -- list and detail ---------------------------------------------------------------------------------------------------


@admin.register(DeferredRequest)
class DeferredRequestAdmin(OfThisGateway):
    list_display = (
        *("ident", "state", "request", "order_key", "position", "tries", "age"),
        *("consumer_name", "client"),
    )
    list_filter = (StatusFilter, AgeFilter, ClientFilter, BreakerFilter, "consumer")
    search_fields = (
        "order_key__startswith",
        "uid__startswith",
        "target",
        "idempotency_key__exact",
        "request_id__exact",
    )
    date_hierarchy = "created_at"
    ordering = ("-pk",)
    sortable_by = ("age",)
    list_per_page = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("retry", "cancel", "release")
    FIELDS = (
        (None, ("ident_whole", "state", "request", "order_of", "position_of", "consumer_name", "client")),
        (gettext_lazy("Times"), ("accepted", "expires", "due", "ended", "released")),
        (
            gettext_lazy("Towards MIFOS"),
            ("breaker", "idempotency_key", "keys", "arrived", "request_id", "said"),
        ),
    )
    fieldsets = tuple((title, {"fields": fields}) for title, fields in FIELDS)
    readonly_fields = tuple(name for _title, fields in FIELDS for name in fields)
    change_form_template = "admin/mifos_gateway/deferredrequest/change.html"
    change_list_template = "admin/mifos_gateway/deferredrequest/list.html"

    class Media:
        css = {"all": ("mifos_gateway/deferred.css",)}  # noqa: RUF012 - as Django has it

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("payload", "response")  # of many rows they would be many megabytes

    def get_changelist(self, request: HttpRequest, **more: Any) -> type[ChangeList]:
        return Numbered

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return deferred_line.may_see(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return deferred_line.may_see(request.user)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(deferred_line.OPERATE))

    @admin.display(description=gettext_lazy("id"))
    def ident(self, row: DeferredRequest) -> str:
        return str(row.uid)[:8]

    @admin.display(description=gettext_lazy("id"))
    def ident_whole(self, row: DeferredRequest) -> str:
        return str(row.uid)

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: DeferredRequest) -> str:
        if row.released_at is not None and row.status in desk.STUCK:
            return _("%s, released") % row.get_status_display()
        holds = acts.is_possible("release", row)
        return ("▲ " + _("%s, holds up its order") if holds else "%s") % row.get_status_display()

    @admin.display(description=gettext_lazy("request"))
    def request(self, row: DeferredRequest) -> str:
        return f"{row.method} {truncatechars(row.target, 80)}"

    @admin.display(description=gettext_lazy("position"))
    def position(self, row: Any) -> Any:
        return row.place or NONE

    @admin.display(description=gettext_lazy("attempts"))
    def tries(self, row: Any) -> Any:
        return row.tries

    @admin.display(description=gettext_lazy("age"), ordering="-pk")
    def age(self, row: DeferredRequest) -> Any:
        return since(row.created_at, timezone.now())  # the database's clock would be asked for each row

    @admin.display(description=gettext_lazy("consumer"))
    def consumer_name(self, row: DeferredRequest) -> Any:
        return row.consumer_id or NONE

    @admin.display(description=gettext_lazy("order key"))
    def order_of(self, row: DeferredRequest) -> Any:
        if not row.order_key:
            return NONE
        others = f"{reverse(deferred_line.LIST)}?{urlencode({'order_key__exact': row.order_key})}"
        return format_html('{} <a href="{}">{}</a>', row.order_key, others, _("all with this key"))

    @admin.display(description=gettext_lazy("position"))
    def position_of(self, row: DeferredRequest) -> Any:
        return desk.position(row) or NONE

    @admin.display(description=gettext_lazy("accepted at"))
    def accepted(self, row: DeferredRequest) -> Any:
        return moment(row.created_at)

    @admin.display(description=gettext_lazy("expires at"))
    def expires(self, row: DeferredRequest) -> Any:
        return moment(row.expires_at)

    @admin.display(description=gettext_lazy("next attempt not before"))
    def due(self, row: DeferredRequest) -> Any:
        return moment(row.due_at) if row.status == desk.Status.QUEUED else NONE

    @admin.display(description=gettext_lazy("ended at"))
    def ended(self, row: DeferredRequest) -> Any:
        return moment(row.ended_at) if row.ended_at else NONE

    @admin.display(description=gettext_lazy("released at"))
    def released(self, row: DeferredRequest) -> Any:
        return moment(row.released_at) if row.released_at else NONE

    @admin.display(description=gettext_lazy("keys that MIFOS got for it"))
    def keys(self, row: DeferredRequest) -> str:
        text = ngettext("%d", "%d, one after the other", row.key_serial + 1) % (row.key_serial + 1)
        return text + (_("; the last one is burnt: MIFOS would repeat an error") if row.key_burnt else "")

    @admin.display(description=gettext_lazy("MIFOS may have got it"))
    def arrived(self, row: DeferredRequest) -> str:
        return _("yes, and no answer is known") if row.perhaps_sent else _("not with its present key")

    @admin.display(description=gettext_lazy("MIFOS answered"))
    def said(self, row: DeferredRequest) -> Any:
        return _("nothing that ended it") if row.response_status is None else row.response_status

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        more: dict[str, Any] = {}
        if row is not None and self.has_view_permission(request, row):
            attempts = list(row.attempts.order_by("-pk")[: ATTEMPTS + 1])
            operates = self.has_operate_permission(request)
            more = {
                "attempts": attempts[:ATTEMPTS],
                "are_more": len(attempts) > ATTEMPTS,
                "acts": [
                    (name, acts.TITLES[name]) for name in acts.ACTIONS if operates and acts.is_possible(name, row)
                ],
                "sees_payload": request.user.has_perm(PAYLOAD),
                "title": _("Deferred request"),
            }
        return super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})

    # --- Acts ---

    @admin.action(description=gettext_lazy("Send the selected ones again"), permissions=["operate"])
    def retry(self, request: HttpRequest, chosen: QuerySet[DeferredRequest]) -> HttpResponse:
        return self._ask(request, "retry", chosen)

    @admin.action(description=gettext_lazy("Cancel the selected ones"), permissions=["operate"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[DeferredRequest]) -> HttpResponse:
        return self._ask(request, "cancel", chosen)

    @admin.action(
        description=gettext_lazy("Release the orders that the selected ones hold up"), permissions=["operate"]
    )
    def release(self, request: HttpRequest, chosen: QuerySet[DeferredRequest]) -> HttpResponse:
        return self._ask(request, "release", chosen)

    def _ask(self, request: HttpRequest, action: str, chosen: QuerySet[DeferredRequest]) -> HttpResponse:
        pks = list(chosen.order_by("pk").values_list("pk", flat=True)[: MOST + 1])
        if len(pks) > MOST:
            said = _("%d at once at most: here are the earliest ones. Choose the others once more afterwards.")
            self.message_user(request, said % MOST, messages.WARNING)
        query = {"action": action, "chosen": ",".join(map(str, pks[:MOST])), "filters": request.GET.urlencode()}
        return redirect(f"{reverse('admin:mifos_gateway_deferredrequest_act')}?{urlencode(query)}")

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]
        site, name = self.admin_site, "mifos_gateway_deferredrequest"
        own = [
            path(
                "act/",
                site.admin_view(require_http_methods(["GET", "HEAD", "POST"])(self.act_view)),
                name=f"{name}_act",
            ),
            path("<int:pk>/payload/", site.admin_view(require_safe(self.payload_view)), name=f"{name}_payload"),
        ]
        return [*own, *super().get_urls()]

    def act_view(self, request: HttpRequest) -> HttpResponse:
        """Asks why, and for a retry with which key; then acts, on each that is still what the page showed."""
        if not self.has_operate_permission(request):
            raise PermissionDenied
        given = request.POST if request.method == "POST" else request.GET
        action, back = given.get("action", ""), self._back(given.get("filters", ""))
        pks = [int(word) for word in given.get("chosen", "").split(",") if word.isdecimal() and len(word) < 19][:MOST]
        if action not in acts.ACTIONS or not pks:
            self.message_user(request, _("Nothing was done: choose requests, and what to do."), messages.WARNING)
            return redirect(back)
        is_confirmed = request.method == "POST" and "confirmed" in request.POST
        form = DeferredActForm(request.POST if is_confirmed else None, action=action)
        if is_confirmed and form.is_valid():
            self._do(request, pks, action, form)
            return redirect(back)
        chosen = self.get_queryset(request).filter(pk__in=pks).order_by("pk")
        found = list(desk.with_behind(desk.with_numbers(chosen)))
        if not found:
            self.message_user(request, _("Nothing was done: what was chosen is gone."), messages.WARNING)
            return redirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": acts.TITLES[action],
            "opts": self.opts,
            "action": action,
            "means": MEANS[action],
            "form": form,
            "rows": [(row, acts.seen(row), self.state(row), _note(action, row)) for row in found],
            "chosen": ",".join(map(str, pks)),
            "filters": given.get("filters", ""),
            "back": back,
            "now": clock.now(),
        }
        return TemplateResponse(request, "admin/mifos_gateway/deferredrequest/act.html", context)

    def _back(self, filters: str) -> str:
        return reverse(deferred_line.LIST) + (f"?{filters}" if filters else "")

    def _do(self, request: HttpRequest, pks: list[int], action: str, form: DeferredActForm) -> None:
        saw = dict(_split(each) for each in request.POST.getlist("seen"))
        try:
            done = acts.act(
                pks,
                action,
                actor=request.user.get_username(),
                source="admin",
                reason=form.cleaned_data["reason"],
                new_key=form.cleaned_data["new_key"],
                over={pk: saw.get(str(pk), "") for pk in pks},
                user=request.user,
            )
        except ActRefused as error:
            self.message_user(request, _("Nothing was done: %s") % error, messages.ERROR)
            return
        self._tell(request, action, done)

    def _tell(self, request: HttpRequest, action: str, done: list[Done]) -> None:
        """What was done, and of each that was not why; those of one reason together."""
        if fine := [one.name[:8] for one in done if not one.refused]:
            said = {"what": acts.TITLES[action], "names": ", ".join(fine)}
            self.message_user(request, _("%(what)s: %(names)s.") % said, messages.SUCCESS)
        for told, field in (
            (_("Not done with %(names)s: %(why)s"), "refused"),
            (_("Done with %(names)s, but: %(why)s"), "problem"),
        ):
            why: dict[str, list[str]] = {}
            for one in done:
                why.setdefault(getattr(one, field), []).append(one.name[:8])
            for reason, names in why.items():
                if reason:
                    self.message_user(request, told % {"names": ", ".join(names), "why": reason}, messages.ERROR)

    # --- What it holds ---

    def payload_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Bodies in clear, once it is written down who looks."""
        if not self.has_view_permission(request) or not request.user.has_perm(PAYLOAD):
            raise PermissionDenied
        row = desk.of_namespace().filter(pk=pk).first()
        if row is None:
            raise Http404
        try:
            acts.note_look(row, actor=request.user.get_username(), source="admin", user=request.user)
        except acts.Unnoticed as error:
            self.message_user(request, _("Not shown: %s") % error, messages.ERROR)
            return redirect("admin:mifos_gateway_deferredrequest_change", pk)
        context = {
            **self.admin_site.each_context(request),
            "title": _("What it holds"),
            "opts": self.opts,
            "row": row,
            "payload": payload.of(row),
        }
        return TemplateResponse(request, "admin/mifos_gateway/deferredrequest/payload.html", context)


def _split(seen: str) -> tuple[str, str]:
    pk, _blank, stood = seen.partition(" ")
    return pk, stood


def _note(action: str, row: Any) -> str:
    """What an operator should know of this one before the act."""
    if not acts.is_possible(action, row):
        return _("holds up nothing") if action == "release" else _("is in no state for that")
    if action == "retry" and row.key_burnt:
        return _("its key is burnt: look in MIFOS, and choose a new one if nothing was done")
    if action == "retry" and row.key_since is not None and desk.forgets_at(row.key_since) <= timezone.now():
        return _("MIFOS may have forgotten its key: look there, and choose a new one if nothing was done")
    if action == "release":
        return str(ngettext("%d waits behind it", "%d wait behind it", row.behind) % row.behind)
    if row.perhaps_sent or row.status == desk.Status.UNKNOWN:
        return _("MIFOS may have done it: look there first")
    return ""


django_log.keep(DeferredRequest)

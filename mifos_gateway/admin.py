"""Consumers and their tokens in the admin: made, changed, rotated and revoked. A token is shown once, as it is made."""

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Max, Min, Q, QuerySet
from django.forms import Script
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from breaker.templatetags.breaker_times import moment
from mifos_gateway import deferred_admin, tokens  # noqa: F401 - it registers its own
from mifos_gateway.forms import NewConsumerForm, RightsForm, RotationForm, withheld
from mifos_gateway.models import SCOPES, Consumer, Token


class NoDeletion:
    """What has been used stays, revoked: who called is told by its name."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnly(NoDeletion):
    """Tokens are made with their consumer or by its rotation, which can show them once."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Times:
    """Moments as the breakers' pages show them: in UTC, which the script turns into the reader's own zone."""

    class Media:
        js = (Script("breaker/breaker.js", type="module"),)

    @admin.display(description=_("created at"), ordering="created_at")
    def created(self, row: Any) -> Any:
        return moment(row.created_at)

    @admin.display(description=_("revoked at"), ordering="revoked_at")
    def revoked(self, row: Any) -> Any:
        return row.revoked_at and moment(row.revoked_at)


class TokenTimes(Times):
    @admin.display(description=_("expires at"), ordering="expires_at")
    def expires(self, token: Token) -> Any:
        return token.expires_at and moment(token.expires_at)

    @admin.display(description=_("last used (to the hour)"), ordering="last_used_at")
    def last_used(self, token: Token) -> Any:
        return token.last_used_at and moment(token.last_used_at)


class TokenInline(ReadOnly, TokenTimes, admin.TabularInline):  # type: ignore[type-arg]
    model = Token
    fields = readonly_fields = ("prefix", "created", "expires", "revoked", "last_used")
    extra = 0
    can_delete = False


@admin.register(Token)
class TokenAdmin(ReadOnly, TokenTimes, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("prefix", "consumer", "created", "expires", "last_used", "revoked")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "consumer")
    list_select_related = ("consumer",)
    search_fields = ("prefix", "consumer__name")
    fields = readonly_fields = list_display
    actions = ("revoke",)

    @admin.action(description=_("Revoke the selected tokens"), permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: "QuerySet[Token]") -> None:
        ended = [token for token in chosen if tokens.revoke_token(token)]
        said = gettext("Revoked, effective everywhere within 10 s: %(count)s.") % {"count": len(ended)}
        self.message_user(request, said, messages.SUCCESS)
        for token in ended:
            self.log_change(request, token, "Revoked this token alone.")


@admin.register(Consumer)
class ConsumerAdmin(NoDeletion, Times, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "may", "live_tokens", "next_expiry", "last_used", "created", "revoked")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name",)
    actions = ("revoke",)
    change_form_template = "admin/mifos_gateway/consumer/change.html"

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Consumer]":
        now = timezone.now()
        is_live = Q(tokens__revoked_at=None) & (Q(tokens__expires_at=None) | Q(tokens__expires_at__gt=now))
        found: QuerySet[Consumer] = super().get_queryset(request)
        return found.annotate(
            live_count=Count("tokens", filter=is_live),
            first_end=Min("tokens__expires_at", filter=is_live),
            used_at=Max("tokens__last_used_at"),
        )

    @admin.display(description=_("may"))
    def may(self, consumer: Consumer) -> str:
        return ", ".join(consumer.scopes) or gettext("nothing")

    @admin.display(description=_("live tokens"), ordering="live_count")
    def live_tokens(self, consumer: Any) -> Any:
        return consumer.live_count

    @admin.display(description=_("next expiry"), ordering="first_end")
    def next_expiry(self, consumer: Any) -> Any:
        return consumer.first_end and moment(consumer.first_end)

    @admin.display(description=_("last used (to the hour)"), ordering="used_at")
    def last_used(self, consumer: Any) -> Any:
        return consumer.used_at and moment(consumer.used_at)

    @admin.action(description=_("Revoke all tokens of the selected consumers"), permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: "QuerySet[Consumer]") -> None:
        ended = sum(tokens.revoke(consumer) for consumer in chosen)
        said = ngettext(
            "%(count)d token revoked, effective everywhere within 10 s.",
            "%(count)d tokens revoked, effective everywhere within 10 s.",
            ended,
        )
        self.message_user(request, said % {"count": ended}, messages.SUCCESS)
        for consumer in chosen:
            self.log_change(request, consumer, "Revoked all tokens.")

    # --- Made and changed ---

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, form=RightsForm if obj else NewConsumerForm, **kwargs)
        form.user = request.user  # the class is made for this request
        return form

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        rights = ("name", "scopes", "allow")
        return (*rights, "created", "revoked") if obj else (*rights, "days")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", "created", "revoked") if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return (TokenInline,) if obj else ()

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        # The new token's page comes next, and a form of which one is right once leads nowhere else.
        one_way = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().changeform_view(request, object_id, form_url, {**one_way, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Consumer, form: Any, change: bool) -> None:
        if change:
            form.before = tokens.rights(Consumer.objects.get(pk=obj.pk))
            tokens.change_rights(obj, scopes=obj.scopes, allow=obj.allow)
            return
        wanted = {scope: scope in obj.scopes for scope in SCOPES}
        form.expiry = form.expires_at()
        form.token = obj.new_token = tokens.issue(  # type: ignore[attr-defined]
            obj.name, **wanted, allow=obj.allow, expires_at=form.expiry
        )
        obj.pk = Consumer.objects.get(name=obj.name).pk

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> str:  # type: ignore[override]
        now = tokens.rights(form.instance)
        return f"Made with {now}; {_told(form.token, form.expiry)}." if add else f"{form.before} → {now}."

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self._show(request, obj, obj.new_token)

    # --- Rotated ---

    def get_urls(self) -> list[URLPattern]:
        rotate = self.admin_site.admin_view(self.rotate_view)
        return [path("<int:pk>/rotate/", rotate, name="mifos_gateway_consumer_rotate"), *super().get_urls()]

    def rotate_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks how long the new token shall live and what becomes of the older ones; makes it; shows it."""
        consumer = self.get_object(request, str(pk))
        if consumer is None:
            raise Http404
        if not self.has_change_permission(request, consumer):
            raise PermissionDenied
        if refused := withheld(request.user, consumer.scopes):
            said = gettext("Only who has the permission himself gets a token with the scope: %(scopes)s.")
            self.message_user(request, said % {"scopes": ", ".join(refused)}, messages.ERROR)
            return redirect("admin:mifos_gateway_consumer_change", consumer.pk)
        form = RotationForm(request.POST or None, initial={"seen": tokens.seen(consumer)})
        if form.is_valid():
            try:
                return self._show(request, consumer, self._rotate(request, consumer, form))
            except tokens.ChangedMeanwhile:
                said = gettext(
                    "Since this page was opened the consumer got a token or other scopes, or was revoked or brought "
                    "back. Look, and open it again."
                )
                form.add_error(None, said)
        context = {
            **self.admin_site.each_context(request),
            "title": _("One more token for %(consumer)s") % {"consumer": consumer},
            "opts": self.opts,
            "consumer": consumer,
            "form": form,
        }
        return TemplateResponse(request, "admin/mifos_gateway/consumer/rotate.html", context)

    def _rotate(self, request: HttpRequest, consumer: Consumer, form: RotationForm) -> str:
        """The new token, which the history knows: both are made, or neither is."""
        saw, expires_at, older_end_at = form.cleaned_data["seen"], form.expires_at(), form.older_end_at()
        made = "Brought back, made" if consumer.revoked_at else "Made"
        with transaction.atomic():
            token = tokens.rotate(consumer, saw=saw, expires_at=expires_at, older_end_at=older_end_at)
            told = f"{made} {_told(token, expires_at)}; older ones: {form.older_in_words()}."
            self.log_change(request, consumer, told)
        return token

    def _show(self, request: HttpRequest, consumer: Consumer, token: str) -> HttpResponse:
        """The one page that holds the token, in answer to the POST that made it: it is kept nowhere for a next one."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("A new token for %(consumer)s") % {"consumer": consumer},
            "opts": self.opts,
            "consumer": consumer,
            "token": token,
        }
        # `no-store` comes with every page of the admin.
        return TemplateResponse(request, "admin/mifos_gateway/consumer/token.html", context)


def _told(token: str, expires_at: datetime | None) -> str:
    """What the history may know of a token."""
    ends = f"ends {expires_at:%Y-%m-%d %H:%MZ}" if expires_at else "without end"
    return f"{token[: tokens.PREFIX_LENGTH]}…, {ends}"

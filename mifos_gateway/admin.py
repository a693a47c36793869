"""Consumers and their tokens in the admin: seen, and revoked."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from mifos_gateway import tokens
from mifos_gateway.models import Consumer, Token


class ReadOnly:
    """Tokens are made by `manage.py create_consumer`, which can show them once."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TokenInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = Token
    fields = readonly_fields = ("prefix", "created_at", "expires_at", "revoked_at", "last_used_at")
    extra = 0
    can_delete = False


@admin.register(Token)
class TokenAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("prefix", "consumer", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "consumer")
    list_select_related = ("consumer",)
    search_fields = ("prefix", "consumer__name")
    fields = readonly_fields = list_display
    actions = ("revoke",)

    @admin.action(description="Revoke the selected tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: "QuerySet[Token]") -> None:
        ended = [token for token in chosen if tokens.revoke_token(token)]
        self.message_user(request, f"Revoked, effective everywhere within 10 s: {len(ended)}.", messages.SUCCESS)
        for token in ended:
            self.log_change(request, token, "Revoked this token alone.")


@admin.register(Consumer)
class ConsumerAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "may", "created_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name",)
    readonly_fields = ("name", "scopes", "allow", "created_at", "revoked_at")
    inlines = (TokenInline,)
    actions = ("revoke",)

    @admin.display(description="may")
    def may(self, consumer: Consumer) -> str:
        return ", ".join(consumer.scopes) or "nothing"

    @admin.action(description="Revoke all tokens of the selected consumers", permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: "QuerySet[Consumer]") -> None:
        ended = sum(tokens.revoke(consumer) for consumer in chosen)
        self.message_user(request, f"{ended} tokens revoked, effective everywhere within 10 s.", messages.SUCCESS)
        for consumer in chosen:
            self.log_change(request, consumer, "Revoked all tokens.")

"""Operators' acts in the admin: to read, not to change."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from breaker.models import OperatorAct


@admin.register(OperatorAct)
class OperatorActAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("created_at", "breaker", "action", "actor", "source", "reason", "status", "until")
    list_filter = ("action", "status", "source", "breaker")
    search_fields = ("breaker", "actor", "reason")
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

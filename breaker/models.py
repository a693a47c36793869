"""Who may see and operate breakers, and what operators did: one row an act and breaker, written before the act."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Breaker(models.Model):
    """Has no table: breakers live in the shared state. What permissions are about."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        permissions = (("operate_breaker", _("Can operate breaker")),)
        verbose_name = _("circuit breaker")
        verbose_name_plural = _("circuit breakers")

    def __str__(self) -> str:
        return "a circuit breaker"


class OperatorAct(models.Model):
    """An act of an operator on one breaker. The row comes first; only then is the act applied to the shared state."""

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        APPLIED = "applied", _("applied")
        FAILED = "failed", _("failed")

    class Source(models.TextChoices):
        API = "api", _("API")
        ADMIN = "admin", _("admin")
        COMMAND = "command", _("command")

    act_id = models.CharField(max_length=32, unique=True, editable=False)
    namespace = models.CharField(max_length=200, editable=False)
    """Of the shared state that was acted on: databases are shared by gateways of several."""
    breaker = models.CharField(max_length=100, db_index=True)
    action = models.CharField(max_length=10)
    actor = models.CharField(max_length=200)
    source = models.CharField(max_length=10, choices=Source)
    reason = models.TextField()
    for_seconds = models.FloatField(null=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    error = models.TextField(blank=True)
    state_before = models.CharField(max_length=10, blank=True)
    state_after = models.CharField(max_length=10, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    applied_at = models.DateTimeField(null=True)
    """On the shared store's clock; orders the acts that are applied again."""
    until = models.DateTimeField(null=True)
    """When the act ends by itself, on the shared store's clock."""

    class Meta:
        ordering = ("-created_at", "-pk")
        verbose_name = _("operator's act")
        verbose_name_plural = _("operators' acts")

    def __str__(self) -> str:
        return f"{self.action} {self.breaker} by {self.actor}"

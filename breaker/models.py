"""Who may see and operate breakers; what operators did, one row an act and breaker, written before the act; and
history: what happened to breakers, and what they counted by minute and hour."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class NoRows(models.Manager):  # type: ignore[type-arg]
    """For who asks any model for a row, such as the admin's way from its history to the site."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class Breaker(models.Model):
    """Has no table: breakers live in the shared state. What permissions are about."""

    objects = NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"
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
    breaker = models.CharField(_("breaker"), max_length=100, db_index=True)
    action = models.CharField(_("action"), max_length=10)
    actor = models.CharField(_("actor"), max_length=200)
    source = models.CharField(_("source"), max_length=10, choices=Source)
    reason = models.TextField(_("reason"))
    for_seconds = models.FloatField(_("for seconds"), null=True)
    status = models.CharField(_("status"), max_length=10, choices=Status, default=Status.PENDING)
    error = models.TextField(_("error"), blank=True)
    state_before = models.CharField(_("state before"), max_length=10, blank=True)
    state_after = models.CharField(_("state after"), max_length=10, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    applied_at = models.DateTimeField(_("applied at"), null=True)
    """On the shared store's clock; orders the acts that are applied again."""
    until = models.DateTimeField(_("until"), null=True)
    """When the act ends by itself, on the shared store's clock."""

    class Meta:
        ordering = ("-created_at", "-pk")
        verbose_name = _("operator's act")
        verbose_name_plural = _("operators' acts")

    def __str__(self) -> str:
        return f"{self.action} {self.breaker} by {self.actor}"


class BreakerEvent(models.Model):
    """A transition of a breaker, or an operator's act on it: one row in the whole cluster."""

    class Kind(models.TextChoices):
        TRANSITION = "transition", _("transition")
        OPERATION = "operation", _("operation")

    class Source(models.TextChoices):
        API = "api", _("API")
        ADMIN = "admin", _("admin")
        COMMAND = "command", _("command")
        BREAKER = "breaker", _("breaker")

    namespace = models.CharField(max_length=200)
    rev = models.CharField(max_length=32)
    """The write's random id in the shared state, by which an event that is read twice is stored once."""
    breaker = models.CharField(_("breaker"), max_length=100)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    operation = models.CharField(_("operation"), max_length=10, blank=True)
    from_state = models.CharField(_("from"), max_length=10)
    to_state = models.CharField(_("to"), max_length=10)
    at = models.DateTimeField(_("at"))
    """By the shared store's clock."""
    actor = models.CharField(_("actor"), max_length=200, blank=True)
    source = models.CharField(_("source"), max_length=10, choices=Source)
    reason = models.TextField(_("reason"), blank=True)
    counts = models.JSONField(_("counts"), default=dict)
    """Behind a transition: successes, failures, timeouts, errorRate, processes, hosts, errors; trial."""
    duration_ms = models.BigIntegerField(_("duration"), null=True)
    """How long the former state had lasted."""
    alone = models.BooleanField(_("alone"), default=False)
    """By one process for itself, while the shared store was away."""

    class Meta:
        ordering = ("-at", "-pk")
        default_permissions = ("view",)
        verbose_name = _("breaker event")
        verbose_name_plural = _("breaker events")
        constraints = (models.UniqueConstraint(fields=("namespace", "rev"), name="breaker_event_once"),)
        indexes = (
            models.Index(fields=("namespace", "breaker", "-at"), name="breaker_event_of_one"),
            models.Index(fields=("namespace", "-at"), name="breaker_event_of_all"),
        )

    def __str__(self) -> str:
        return f"{self.breaker} {self.operation or self.to_state}"

    @property
    def seconds(self) -> float | None:
        """How long the former state had lasted."""
        return None if self.duration_ms is None else self.duration_ms / 1000


class RunningTotals(models.Model):
    """What metrics have told of a breaker, or under another name: what the shared store must not fall below."""

    namespace = models.CharField(max_length=200)
    name = models.CharField(max_length=100)
    counts = models.JSONField(default=dict)
    """Fields as breaker.engine.window has them."""
    at = models.DateTimeField(auto_now=True)

    class Meta:
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("namespace", "name"), name="breaker_totals_once"),)

    def __str__(self) -> str:
        return self.name


class Series(models.Model):
    """Whose samples: a breaker's, as counted by one store (a Redis that was emptied counts as another)."""

    namespace = models.CharField(max_length=200)
    breaker = models.CharField(max_length=100)
    store = models.CharField(max_length=32)

    class Meta:
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("namespace", "breaker", "store"), name="breaker_series_once"),)

    def __str__(self) -> str:
        return self.breaker


class Sample(models.Model):
    """What a breaker counted in the minute or hour that began at `at`."""

    series = models.ForeignKey(Series, on_delete=models.CASCADE, db_index=False)
    at = models.DateTimeField()
    successes = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    timeouts = models.PositiveIntegerField(default=0)
    rejects = models.PositiveIntegerField(default=0)
    fallbacks = models.PositiveIntegerField(default=0)
    latency_us = models.BigIntegerField(default=0)
    histogram = models.BinaryField(default=bytes)
    """Of latencies: see breaker.history."""

    class Meta:
        abstract = True
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"


class MinuteSample(Sample):
    rolled = models.BooleanField(default=False)
    """Whether its hour holds it."""

    class Meta(Sample.Meta):
        constraints = (models.UniqueConstraint(fields=("series", "at"), name="breaker_minute_once"),)
        indexes = (
            models.Index(fields=("at",), name="breaker_minute_at"),
            models.Index(fields=("at",), name="breaker_minute_unrolled", condition=models.Q(rolled=False)),
        )


class HourSample(Sample):
    class Meta(Sample.Meta):
        constraints = (models.UniqueConstraint(fields=("series", "at"), name="breaker_hour_once"),)
        indexes = (models.Index(fields=("at",), name="breaker_hour_at"),)

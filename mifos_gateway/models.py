"""Who may call: consumers and their tokens. What waits: deferred requests, their attempts, and keys that were used."""

import uuid
from datetime import timedelta

from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

SCOPES = ("maker", "checker", "view", "operate")
"""Calls MIFOS as maker, as checker; sees breakers with who did what and why; acts on them, which includes seeing."""

valid_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", _("A name is 1 to 64 letters, digits, dots, underscores and hyphens.")
)


class Consumer(models.Model):
    """A known caller. Its rights are its own, so rotating tokens changes none."""

    name = models.CharField(_("name"), max_length=64, unique=True, validators=[valid_name])
    # A list rather than columns: further scopes need no migration.
    scopes = models.JSONField(_("scopes"), default=list, blank=True)
    # `METHOD pattern` rules; empty allows every route that is not denied to all.
    allow = models.JSONField(_("allowed routes"), default=list, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True, editable=False)

    class Meta:
        ordering = ("name",)
        verbose_name = _("consumer")
        verbose_name_plural = _("consumers")

    def __str__(self) -> str:
        return self.name


class Token(models.Model):
    """One of a consumer's tokens; only its digest is kept, and enough of its beginning to tell it from the others."""

    consumer = models.ForeignKey(Consumer, on_delete=models.CASCADE, related_name="tokens", verbose_name=_("consumer"))
    prefix = models.CharField(_("prefix"), max_length=16)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True, editable=False)

    class Meta:
        ordering = ("created_at",)
        verbose_name = _("token")
        verbose_name_plural = _("tokens")

    def __str__(self) -> str:
        return f"{self.prefix}…"


class UsedKey(models.Model):
    """An `Idempotency-Key` that came with a write, and which body it stood for. The key itself is not here."""

    namespace = models.CharField(max_length=100)
    identity = models.CharField(max_length=43)  # idempotency.identity: consumer, client, method, path, query, key
    body_digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_index=True)
    calls = models.PositiveIntegerField(default=0)  # with it that went to MIFOS at once, or were about to

    class Meta:
        constraints = (models.UniqueConstraint(fields=("namespace", "identity"), name="one_body_for_a_key"),)

    def __str__(self) -> str:
        return self.identity


UNFINISHED = models.Q(status__in=("queued", "replaying", "rejected", "unknown"), released_at=None)
"""What holds up its order: one that ended badly does until it is cancelled or released."""


class DeferredRequest(models.Model):
    """A write that was accepted for later. The table is the truth: whoever replays it holds a lease, and no more.

    queued ⇄ replaying → delivered, awaiting_approval, rejected, unknown; queued → expired, unknown; and cancelled.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", _("queued")
        REPLAYING = "replaying", _("being sent")
        AWAITING_APPROVAL = "awaiting_approval", _("awaiting approval")
        DELIVERED = "delivered", _("delivered")
        REJECTED = "rejected", _("rejected by MIFOS")
        UNKNOWN = "unknown", _("outcome unknown")
        EXPIRED = "expired", _("expired")
        CANCELLED = "cancelled", _("cancelled")

    uid = models.UUIDField(_("id"), default=uuid.uuid4, unique=True, editable=False)
    # One for each MIFOS and tenant: a request is never sent to another than the one it was accepted for.
    namespace = models.CharField(max_length=100)
    tenant = models.CharField(_("tenant"), max_length=100, default="default")
    consumer = models.ForeignKey(
        Consumer,
        on_delete=models.PROTECT,
        to_field="name",
        db_column="consumer",
        related_name="deferred",
        null=True,  # the code of this very project
        blank=True,
        verbose_name=_("consumer"),
    )
    client = models.CharField(_("client"), max_length=16)
    breaker = models.CharField(_("breaker"), max_length=100)
    method = models.CharField(_("method"), max_length=8)
    target = models.TextField(_("path"))
    order_key = models.CharField(_("order key"), max_length=255, blank=True)
    order = models.CharField(max_length=330, blank=True)  # whose order key it is, besides; "" has no order
    idempotency_key = models.CharField(_("idempotency key"), max_length=255)
    identity = models.CharField(max_length=43)
    key_serial = models.PositiveIntegerField(default=0)  # how often MIFOS has got a new key for it
    key_since = models.DateTimeField(null=True, blank=True)  # since when MIFOS may know the present one
    request_id = models.CharField(max_length=64, blank=True)
    payload = models.BinaryField()  # headers and body, sealed
    status = models.CharField(_("status"), max_length=20, choices=Status.choices, default=Status.QUEUED)
    perhaps_sent = models.BooleanField(_("perhaps sent"), default=False)  # with the present key, and no answer is known
    key_burnt = models.BooleanField(default=False)
    failures = models.PositiveIntegerField(default=0)  # in a row, for the back-off
    asked = models.PositiveIntegerField(default=0)  # how often in a row MIFOS has said that its key is in work
    created_at = models.DateTimeField(_("accepted at"), editable=False)
    time_to_live = models.DurationField(_("time to live"), default=timedelta(hours=1))
    expires_at = models.DateTimeField(_("expires at"))
    due_at = models.DateTimeField(_("due at"))
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    released_at = models.DateTimeField(_("released at"), null=True, blank=True)
    # Its order while it holds that up, else NULL: kept by the database, and indexed, for SQLite uses no partial index
    # whose condition comes as parameters.
    line = models.GeneratedField(
        expression=models.Case(models.When(UNFINISHED, then=models.F("order")), default=None),
        output_field=models.CharField(max_length=330, null=True),
        db_persist=True,
    )
    lease = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    response_status = models.PositiveSmallIntegerField(_("status of MIFOS"), null=True, blank=True)
    response = models.BinaryField(null=True, blank=True)  # the body, sealed

    class Meta:
        ordering = ("-pk",)
        verbose_name = _("deferred request")
        verbose_name_plural = _("deferred requests")
        permissions = (
            ("operate_deferredrequest", _("Can retry, cancel and release deferred requests")),
            ("view_payload", _("Can see what deferred requests hold")),
        )
        constraints = (
            models.UniqueConstraint(fields=("namespace", "identity"), name="one_deferred_request_for_a_key"),
            # Not even two runners that see different rows send two of one order at once.
            models.UniqueConstraint(
                fields=("namespace", "tenant", "order"),
                condition=models.Q(status="replaying") & ~models.Q(order=""),
                name="one_of_an_order_is_being_sent",
            ),
        )
        indexes = (
            models.Index(fields=("namespace", "line", "id"), name="deferred_line"),
            models.Index(fields=("namespace", "status", "breaker", "due_at", "id"), name="deferred_due"),
            models.Index(fields=("namespace", "status", "line", "due_at"), name="deferred_due_in_line"),
            models.Index(fields=("namespace", "status", "expires_at"), name="deferred_expires"),
            models.Index(fields=("consumer", "-id"), name="deferred_of_consumer"),
            models.Index(fields=("ended_at",), name="deferred_ended"),
        )

    def __str__(self) -> str:
        return str(self.uid)


class DeferredAttempt(models.Model):
    """One try to send a deferred request, and what came of it."""

    request = models.ForeignKey(DeferredRequest, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField(_("at"))
    outcome = models.CharField(_("outcome"), max_length=24)
    status = models.PositiveSmallIntegerField(_("status of MIFOS"), null=True)
    error = models.CharField(_("error"), max_length=255, blank=True)  # in words that hold no body
    key_serial = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("pk",)
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")

    def __str__(self) -> str:
        return f"{self.outcome} at {self.at:%Y-%m-%d %H:%M:%SZ}"

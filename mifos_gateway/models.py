"""Who may call: consumers and their tokens."""

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

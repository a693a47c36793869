"""Who is shut out after failed logins: a name at an address, as axes has it, and an address with whatever names."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutOut:
    """After how many failures who is told to wait until when."""

    whole_address: bool
    failures: int
    ends_at: datetime


class FailedLogins(AxesDatabaseHandler):  # type: ignore[misc]
    """Asked before the password is hashed, which is what a guess costs."""

    # Axes knows one limit for all its parameters, and forgets an address's failures with each login from there.
    def is_locked(self, request: HttpRequest, credentials: Any = None) -> bool:
        return super().is_locked(request, credentials) or _address_ends_at(request) is not None


def shut_out(request: Any) -> ShutOut:
    """What there is to tell of a request that axes has turned away."""
    if ends_at := _address_ends_at(request):
        return ShutOut(whole_address=True, failures=settings.ADDRESS_FAILURE_LIMIT, ends_at=ends_at)
    (of_name,) = FailedLogins().get_user_attempts(request, request.axes_credentials)
    limit = settings.AXES_FAILURE_LIMIT
    return ShutOut(whole_address=False, failures=limit, ends_at=_ends_at(of_name, limit) or timezone.now())


def _address_ends_at(request: Any) -> datetime | None:
    recent = AccessAttempt.objects.filter(
        ip_address=request.axes_ip_address, attempt_time__gte=get_cool_off_threshold(request)
    )
    return _ends_at(recent, settings.ADDRESS_FAILURE_LIMIT)


def _ends_at(recent: Any, limit: int) -> datetime | None:
    """When fewer failures than the limit will be recent; None: it is not reached."""
    failures = 0
    for failed_at, count in recent.order_by("-attempt_time").values_list("attempt_time", "failures_since_start"):
        failures += count
        if failures >= limit:
            ends_at: datetime = failed_at + settings.AXES_COOLOFF_TIME
            return ends_at
    return None

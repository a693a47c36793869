"""Who is shut out after failed logins: a name at an address, as axes has it, and an address with whatever names."""

from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest


class FailedLogins(AxesDatabaseHandler):  # type: ignore[misc]
    """Asked before the password is hashed, which is what a guess costs."""

    # Axes knows one limit for all its parameters, and forgets an address's failures with each login from there.
    def is_locked(self, request: HttpRequest, credentials: Any = None) -> bool:
        return super().is_locked(request, credentials) or is_address_locked(request)


def is_address_locked(request: Any) -> bool:
    """Whether so many logins have failed from the request's address that none is tried any more."""
    recent = AccessAttempt.objects.filter(
        ip_address=request.axes_ip_address, attempt_time__gte=get_cool_off_threshold(request)
    )
    failures = recent.aggregate(count=Sum("failures_since_start"))["count"] or 0
    return bool(failures >= settings.ADDRESS_FAILURE_LIMIT)

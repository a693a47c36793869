"""Django's log (*History*, *Recent actions*) of what was done here, also by who has no account."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, router, transaction

log = logging.getLogger("breaker")

_kept: list[type[models.Model]] = []


def keep(model: type[models.Model]) -> None:
    """Accounts of which the log tells acts on such are not deleted in the admin: their entries would go with them."""
    if model not in _kept:
        _kept.append(model)


def tells_of(user: Any) -> bool:
    """Whether entries that are to be kept would go with this account."""
    from django.contrib.admin.models import LogEntry
    from django.contrib.contenttypes.models import ContentType

    about = ContentType.objects.get_for_models(*_kept, for_concrete_models=False).values()
    return LogEntry.objects.filter(user=user, content_type__in=about).exists()


def note(
    message: str, *, user: Any, source: str, about: type[models.Model], object_id: str | None, object_repr: str
) -> str:
    """One entry, by `user` or, without one, by an account that stands in for the `source`.

    What it tells is done by now and stays so, also where it cannot be written; then it is said why.
    """
    if not apps.is_installed("django.contrib.admin"):
        return ""
    from django.contrib.admin.models import CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    try:
        with transaction.atomic(using=router.db_for_write(LogEntry)):
            who = user or _stand_in(source)
            if who is None:
                return ""
            LogEntry.objects.create(
                user=who,
                content_type=ContentType.objects.get_for_model(about, for_concrete_model=False),
                object_id=object_id,
                object_repr=object_repr[:200],
                action_flag=CHANGE,
                change_message=message,
            )
    except Exception as error:  # also what a project's own signals raise: the act must not look as if it had failed
        log.warning("the act on %s is not in Django's log: %s", object_repr, error, exc_info=True)
        return f"Django's log could not be written: {error}"
    return ""


def _stand_in(source: str) -> Any:
    """The account that Django's log names for who has none here; nobody can log in with it. None where there cannot be
    one: a project's user model may ask for more than a name, or somebody bear it."""
    users, name = get_user_model(), f"breaker-{source}"
    defaults = {"is_active": False, "password": make_password(None)}
    try:
        with transaction.atomic(using=router.db_for_write(users)):
            found, _made = users._default_manager.get_or_create(**{users.USERNAME_FIELD: name}, defaults=defaults)
    except (IntegrityError, TypeError, ValueError, ValidationError) as error:
        log.warning("no entry in Django's log: nobody can stand in for %s: %s", name, error)
        return None
    if found.is_active:
        log.warning("no entry in Django's log: %s can log in, and so may be somebody", name)
        return None
    return found

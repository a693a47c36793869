"""What waits for MIFOS, in a line of the breakers' dashboard."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from breaker.extras import Extra, Part
from mifos_gateway.outbox import desk, rules
from mifos_gateway.outbox.desk import Backlog

LIST = "admin:mifos_gateway_deferredrequest_changelist"
VIEW, OPERATE = "mifos_gateway.view_deferredrequest", "mifos_gateway.operate_deferredrequest"


def may_see(user: Any) -> bool:
    return bool(user.has_perm(VIEW) or user.has_perm(OPERATE))


def made() -> Extra:
    return Extra("deferred", title=gettext_lazy("Deferred requests"), may_see=may_see, read=read, parts=parts)


def read() -> Backlog | None:
    """None: there is nothing, and no route is named for which there could be."""
    found = desk.backlog()
    return found if found.waiting or found.blocked or rules.any_named() else None


def parts(found: Backlog) -> list[Part]:
    told = [_waiting(found)]
    if found.oldest:
        told.append(Part(text=_("the oldest for"), since=found.oldest))
    if found.blocked:
        text = ngettext("%d order is blocked", "%d orders are blocked", found.blocked) % found.blocked
        told.append(Part(text=text, url=f"{reverse(LIST)}?status=blocking", warns=True))
    return told


def _waiting(found: Backlog) -> Part:
    if not found.waiting:
        return Part(text=_("Deferred requests: none waits"), url=reverse(LIST))
    text = ngettext("%d deferred request waits", "%d deferred requests wait", found.waiting) % found.waiting
    return Part(text=text, url=f"{reverse(LIST)}?status=waiting")

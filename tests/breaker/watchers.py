"""People who watch and operate, and what they see, for the dashboard's tests."""

import html
import importlib
import re

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client

from breaker import extras, pages
from breaker.pages import Door, Watch

BOARD = "/admin/breaker/"
LIVE = "/admin/breaker/live"
ACT = "/admin/breaker/act"


def person(*permissions: str, staff: bool = True, name: str = "ada") -> User:
    user = User.objects.create_user(name, password="x", is_staff=staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def member(group: str, *, name: str = "ada") -> User:
    """Somebody in a group that the migration makes; a test with transactions of its own may have emptied the tables."""
    importlib.import_module("breaker.migrations.0004_breaker_groups").make_groups(apps, connection.schema_editor())
    user = person(name=name)
    user.groups.add(Group.objects.get(name=group))
    return user


def browser(user: User, **more: bool) -> Client:
    client = Client(**more)
    client.force_login(user)
    return client


def words(page: str) -> str:
    """A page's text as it is read: no tags, one blank between words."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", page)).split())


@pytest.fixture(autouse=True)
def fresh_watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    made = Watch()
    monkeypatch.setattr(pages, "watch", made)
    monkeypatch.setattr(pages, "door", Door())
    extras.forget()
    return made


@pytest.fixture
def viewer(db: None) -> Client:
    return browser(person("view_breaker", name="vera"))


@pytest.fixture
def operator(db: None) -> Client:
    return browser(person("operate_breaker", name="otto"))

"""Consumers in the admin."""

import re

import pytest
from django.test import Client

from mifos_gateway import tokens
from mifos_gateway.models import Consumer, Token

pytestmark = pytest.mark.django_db


@pytest.fixture
def consumer() -> Consumer:
    tokens.issue("shop", maker=True)
    return Consumer.objects.get()


def test_consumers_are_listed(admin_client: Client, consumer: Consumer) -> None:
    assert b"shop" in admin_client.get("/admin/mifos_gateway/consumer/").content


def test_a_consumers_tokens_are_shown_by_their_beginning(admin_client: Client, consumer: Consumer) -> None:
    page = admin_client.get(f"/admin/mifos_gateway/consumer/{consumer.pk}/change/").content.decode()

    token = Token.objects.get()
    assert token.prefix in page
    assert token.digest not in page


def test_view_site_leads_somewhere(admin_client: Client) -> None:
    page = admin_client.get("/admin/").content.decode()

    (address,) = re.findall(r'<a href="([^"]*)">View site', page)
    assert admin_client.get(address).status_code == 200


def test_consumers_are_revoked_by_an_action(admin_client: Client, consumer: Consumer) -> None:
    chosen = {"action": "revoke", "_selected_action": [consumer.pk]}
    response = admin_client.post("/admin/mifos_gateway/consumer/", chosen, follow=True)

    assert b"1 token revoked" in response.content
    assert not Token.objects.filter(revoked_at=None).exists()


def test_one_token_is_revoked_by_an_action(admin_client: Client, consumer: Consumer) -> None:
    leaked = Token.objects.get()
    tokens.issue("shop")
    chosen = {"action": "revoke", "_selected_action": [leaked.pk]}
    response = admin_client.post("/admin/mifos_gateway/token/", chosen, follow=True)

    assert b"within 10 s: 1." in response.content
    assert [token.pk for token in Token.objects.exclude(revoked_at=None)] == [leaked.pk]


def test_a_token_is_looked_at_without_its_digest(admin_client: Client, consumer: Consumer) -> None:
    token = Token.objects.get()

    page = admin_client.get(f"/admin/mifos_gateway/token/{token.pk}/change/").content.decode()
    assert (token.prefix in page, token.digest in page) == (True, False)


def test_consumers_are_not_deleted_here(admin_client: Client, consumer: Consumer) -> None:
    assert admin_client.get(f"/admin/mifos_gateway/consumer/{consumer.pk}/delete/").status_code == 403


def test_tokens_are_not_made_apart_from_their_consumer(admin_client: Client) -> None:
    assert admin_client.get("/admin/mifos_gateway/token/add/").status_code == 403

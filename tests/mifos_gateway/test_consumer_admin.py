"""Consumers made, changed and rotated in the admin: the token is shown once, and kept nowhere."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client
from django.utils import timezone, translation

from mifos_gateway import tokens
from mifos_gateway.models import Consumer, Token

pytestmark = pytest.mark.django_db

LIST = "/admin/mifos_gateway/consumer/"
TOKENS = "/admin/mifos_gateway/token/"
SHOP = {"name": "shop", "scopes": ["maker", "view"], "allow": "get clients/*\n\nPOST loans/*\n", "days": "30"}
FORMSET = {"tokens-TOTAL_FORMS": "0", "tokens-INITIAL_FORMS": "0"}


@pytest.fixture
def shop() -> Consumer:
    tokens.issue("shop", maker=True, allow=["GET clients/*"])
    return Consumer.objects.get()


def shown(response: Any) -> list[str]:
    return re.findall(r"mgw_[A-Za-z0-9_-]{49}", response.content.decode())


def as_user(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def rotate(client: Client, consumer: Consumer, **fields: str) -> Any:
    page = client.get(f"{LIST}{consumer.pk}/rotate/").content.decode()
    seen = re.findall(r'name="seen" value="([^"]+)"', page)[0]
    return client.post(f"{LIST}{consumer.pk}/rotate/", {"older": "keep", "hours": "24", "seen": seen} | fields)


def sent_by_a_page(consumer: Consumer) -> dict[str, str]:
    """What the rotation's page, if it is opened now, sends later."""
    return {"older": "keep", "hours": "24", "seen": tokens.seen(consumer)}


def live(consumer: Consumer) -> list[bool]:
    """Of each token, oldest first, whether it is good."""
    return [tokens.find(token.digest) is not None for token in consumer.tokens.order_by("pk")]


def test_a_new_consumer_s_token_is_in_the_answer_and_works(admin_client: Client) -> None:
    response = admin_client.post(f"{LIST}add/", SHOP)

    (token,) = shown(response)
    identity = tokens.find(tokens.digest(token))
    assert identity is not None
    assert (identity.name, identity.scopes) == ("shop", {"maker", "view"})
    assert [str(rule) for rule in identity.allow.rules] == ["GET clients/*", "POST loans/*"]
    assert identity.expires_at is not None
    assert abs(identity.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)


def test_no_cache_keeps_the_token_s_page(admin_client: Client) -> None:
    assert "no-store" in admin_client.post(f"{LIST}add/", SHOP).headers["Cache-Control"]


@pytest.mark.parametrize("how", ["add", "rotate"])
def test_the_token_is_kept_nowhere(admin_client: Client, caplog: pytest.LogCaptureFixture, how: str) -> None:
    caplog.set_level("INFO")  # at DEBUG Django tells whole pages: config.logs lets nobody ask for that
    caplog.set_level("DEBUG", "gateway")
    if how == "rotate":
        tokens.issue("shop")
        response = rotate(admin_client, Consumer.objects.get())
    else:
        response = admin_client.post(f"{LIST}add/", SHOP)

    (token,) = shown(response)
    entry = LogEntry.objects.get()
    kept = [entry.change_message, entry.object_repr, caplog.text, *Token.objects.values_list("digest", flat=True)]
    kept += [str(session.get_decoded()) for session in Session.objects.all()]
    kept += [cookie.OutputString() for cookie in response.cookies.values()]
    pages = [LIST, f"{LIST}{Consumer.objects.get().pk}/change/", f"{LIST}{Consumer.objects.get().pk}/history/"]
    kept += [admin_client.get(page).content.decode() for page in pages]
    assert [each for each in kept if token[tokens.PREFIX_LENGTH :] in each] == []
    assert token[: tokens.PREFIX_LENGTH] in entry.change_message


def test_the_same_form_sent_again_makes_no_second_token(admin_client: Client) -> None:
    admin_client.post(f"{LIST}add/", SHOP)
    again = admin_client.post(f"{LIST}add/", SHOP)

    assert (shown(again), Token.objects.count()) == ([], 1)
    assert b"already exists" in again.content


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"allow": "clients/*"}, b"does not begin with a method"), ({"name": "a b"}, b"A name is"), ({"days": "0"}, b"1")],
)
def test_what_is_wrong_is_said_at_its_field(admin_client: Client, fields: dict[str, str], said: bytes) -> None:
    response = admin_client.post(f"{LIST}add/", SHOP | fields)

    assert said in response.content
    assert not Consumer.objects.exists()


def test_rights_are_changed_and_the_history_says_from_what(admin_client: Client, shop: Consumer) -> None:
    changed = FORMSET | {"scopes": ["checker", "operate"], "allow": ""}
    response = admin_client.post(f"{LIST}{shop.pk}/change/", changed)

    shop.refresh_from_db()
    assert (response.status_code, shop.scopes, shop.allow) == (302, ["checker", "operate"], [])
    assert LogEntry.objects.get().change_message == "maker on GET clients/* → checker and operate on all routes."


def test_a_change_does_not_bring_back_whom_another_revokes_meanwhile(shop: Consumer) -> None:
    stale = Consumer.objects.get()
    tokens.revoke(shop)
    tokens.change_rights(stale, scopes=["view"], allow=[])

    assert Consumer.objects.get().revoked_at is not None


@pytest.mark.parametrize(
    ("older", "after"), [("keep", [True, True]), ("at once", [False, True]), ("later", [True, True])]
)
def test_one_more_token_and_what_becomes_of_the_older(
    admin_client: Client, shop: Consumer, older: str, after: list[bool]
) -> None:
    response = rotate(admin_client, shop, older=older, hours="5")

    assert len(shown(response)) == 1
    assert live(shop) == after
    ends = shop.tokens.order_by("pk")[0].expires_at
    if older == "later":
        assert ends is not None
        assert abs(ends - timezone.now() - timedelta(hours=5)) < timedelta(minutes=1)


def test_an_older_token_that_ends_sooner_still_does(admin_client: Client, shop: Consumer) -> None:
    soon = timezone.now() + timedelta(hours=1)
    Token.objects.update(expires_at=soon)
    rotate(admin_client, shop, older="later", hours="5")

    assert shop.tokens.order_by("pk")[0].expires_at == soon


def test_a_rotation_sent_again_makes_no_second_token(admin_client: Client, shop: Consumer) -> None:
    sent = sent_by_a_page(shop)
    first = admin_client.post(f"{LIST}{shop.pk}/rotate/", sent)
    again = admin_client.post(f"{LIST}{shop.pk}/rotate/", sent)

    assert (len(shown(first)), shown(again), shop.tokens.count()) == (1, [], 2)
    assert b"Since this page was opened the consumer got a token" in again.content


def test_a_page_from_before_a_revocation_does_not_undo_it(admin_client: Client, shop: Consumer) -> None:
    sent = sent_by_a_page(shop)
    tokens.revoke(shop)
    response = admin_client.post(f"{LIST}{shop.pk}/rotate/", sent)

    assert (shown(response), live(shop)) == ([], [False])
    assert Consumer.objects.get().revoked_at is not None


def test_a_page_from_before_a_comeback_and_another_revocation_does_not_undo_that(shop: Consumer) -> None:
    tokens.revoke(shop)
    shop.refresh_from_db()
    saw = tokens.seen(shop)
    Consumer.objects.update(revoked_at=timezone.now() + timedelta(seconds=1))

    with pytest.raises(tokens.ChangedMeanwhile):
        tokens.rotate(shop, saw=saw)


def test_scopes_that_the_caller_has_not_judged_get_no_token(shop: Consumer) -> None:
    stale = Consumer.objects.get()
    tokens.change_rights(shop, scopes=["operate"], allow=[])

    with pytest.raises(tokens.ChangedMeanwhile):
        tokens.rotate(stale, saw=tokens.seen(stale))


def test_no_token_is_made_that_the_history_cannot_tell(
    admin_client: Client, shop: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(LogEntry.objects, "log_actions", away)
    admin_client.raise_request_exception = False
    response = rotate(admin_client, shop, older="at once")

    assert (response.status_code, live(shop)) == (503, [True])


def test_a_rotation_s_fields_are_named_to_who_hears_the_page(admin_client: Client, shop: Consumer) -> None:
    form = admin_client.get(f"{LIST}{shop.pk}/rotate/").content.decode().partition('id="content-main"')[2]
    ids = re.findall(r' id="([^"]+)"', form)

    assert re.search(r"<fieldset[^>]*><legend>Older tokens:</legend>", form)
    named = re.findall(r"<label[^>]*?(?: for=\"([^\"]+)\"[^>]*)?>", form) + re.findall(r'describedby="([^"]+)"', form)
    assert len(named) > 5
    assert [each for each in named if each not in ids] == []


def test_a_rotation_by_address_alone_makes_none(admin_client: Client, shop: Consumer) -> None:
    admin_client.get(f"{LIST}{shop.pk}/rotate/?older=keep&seen={tokens.seen(shop)}")

    assert shop.tokens.count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"seen": "x"},
        {"seen": "9" * 30},
        {"older": "never"},
        {"older": "later", "hours": ""},
        {"hours": "0"},
        {"days": "9" * 30},
        {"days": "-1"},
    ],
)
def test_a_rotation_that_is_filled_in_wrong_makes_none(
    admin_client: Client, shop: Consumer, wrong: dict[str, str]
) -> None:
    response = rotate(admin_client, shop, **wrong)

    assert (response.status_code, shop.tokens.count()) == (200, 1)
    assert b"errornote" in response.content


def test_who_is_not_there_is_not_rotated(admin_client: Client) -> None:
    assert admin_client.get(f"{LIST}{'9' * 30}/rotate/").status_code == 404


@pytest.mark.parametrize("address", ["add/", "{pk}/rotate/", "{pk}/change/"])
def test_a_form_of_another_site_is_refused(shop: Consumer, address: str) -> None:
    strict = as_user(Client(enforce_csrf_checks=True), "add_consumer", "change_consumer")
    response = strict.post(LIST + address.format(pk=shop.pk), SHOP | {"seen": "1", "older": "keep"})

    assert (response.status_code, Token.objects.count()) == (403, 1)


def test_who_may_only_look_finds_no_button_and_no_way(client: Client, shop: Consumer) -> None:
    looking = as_user(client, "view_consumer", "view_token")
    page = looking.get(f"{LIST}{shop.pk}/change/").content
    answers = [looking.post(LIST + address) for address in ("add/", f"{shop.pk}/rotate/", f"{shop.pk}/change/")]

    assert (b"rotate" in page, b'type="submit"' in page.partition(b'id="content"')[2]) == (False, False)
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert b"shop" in page


def test_the_list_tells_live_tokens_the_next_end_and_the_last_use(
    admin_client: Client, shop: Consumer, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now()
    for number in range(5):
        tokens.issue(f"other-{number}")
    tokens.issue("shop", expires_at=now + timedelta(days=3))
    tokens.issue("shop", expires_at=now - timedelta(days=3))
    used = shop.tokens.order_by("pk")[0]
    Token.objects.filter(pk=used.pk).update(last_used_at=now)

    with django_assert_max_num_queries(7):
        page = admin_client.get(LIST).content.decode()

    (row,) = re.findall(r"<tr>(?:(?!</tr>).)*>shop<.*?</tr>", page, re.DOTALL)
    cells = dict(re.findall(r'class="field-(\w+)[^>]*>(?:<time[^>]*>)?([^<]*)<', row))
    assert cells["live_tokens"] == "2"
    assert all(cells[name].endswith(" UTC") for name in ("next_expiry", "last_used"))


@pytest.mark.parametrize("page", [LIST, f"{LIST}{{shop}}/change/", TOKENS, f"{TOKENS}{{token}}/change/"])
def test_times_have_a_zone_and_are_told_in_the_reader_s_own(admin_client: Client, shop: Consumer, page: str) -> None:
    at = {hour: datetime(2026, 11, 24, hour, 24, 5, tzinfo=UTC) for hour in range(1, 5)}
    Consumer.objects.update(created_at=at[1], revoked_at=at[2])
    Token.objects.update(created_at=at[1], revoked_at=at[2], last_used_at=at[3], expires_at=at[4])
    token = shop.tokens.get()

    told = admin_client.get(page.format(shop=shop.pk, token=token.pk)).content.decode()
    hours = {1, 2, 3} if page == LIST else {1, 2, 3, 4}  # the end of a revoked token is no next one
    assert {int(hour) for hour in re.findall(r">2026-11-24 0(\d):24:05 UTC</time>", told)} == hours
    assert "last used (to the hour)" in told.lower()
    assert 'breaker.js" type="module"' in told


def test_a_revoked_consumer_comes_back_with_the_new_token_alone(admin_client: Client, shop: Consumer) -> None:
    tokens.revoke(shop)
    assert b"brings it back" in admin_client.get(f"{LIST}{shop.pk}/rotate/").content
    rotate(admin_client, shop)

    assert live(shop) == [False, True]
    assert LogEntry.objects.get().change_message.startswith("Brought back, made mgw_")


# --- In the project's language ---


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language in which what is marked for translation stands in guillemets."""
    monkeypatch.setattr(translation._trans, "gettext", lambda message: f"«{message}»")


@pytest.mark.parametrize(
    "page",
    [
        *(LIST, f"{LIST}add/", f"{LIST}{{shop}}/change/", f"{LIST}{{shop}}/rotate/"),
        *(TOKENS, f"{TOKENS}{{token}}/change/"),
    ],
)
def test_every_label_is_translated(admin_client: Client, shop: Consumer, translated: None, page: str) -> None:
    told = admin_client.get(page.format(shop=shop.pk, token=shop.tokens.get().pk)).content.decode()
    columns = r'<th class="column-[^>]*>([^<]*)|<div class="text">(?:<a[^>]*>|<span>)([^<]*)'
    labels = ["".join(found) for found in re.findall(rf"<(?:label|legend)\b[^>]*>([^<]*)|{columns}", told)]

    labels = [label.strip() for label in labels if label.strip()]
    assert len(labels) > 2
    assert [label for label in labels if not label.startswith("«")] == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "a b"}, "«A name is 1 to 64 letters"),
        ({"allow": "clients/*"}, "«&#x27;clients/*&#x27; does not begin with a method"),
        ({"allow": "GET /"}, "«&#x27;GET /&#x27; has no path pattern"),
        ({"allow": "GET a?b=c"}, "«&#x27;GET a?b=c&#x27; holds a query"),
    ],
)
def test_what_is_wrong_with_a_field_is_translated(
    admin_client: Client, translated: None, fields: dict[str, str], said: str
) -> None:
    assert said in admin_client.post(f"{LIST}add/", SHOP | fields).content.decode()


# --- Rights on breakers, handed out ---

GIVERS = [
    ((), "view", False),
    ((), "operate", False),
    (("view_breaker",), "view", True),
    (("view_breaker",), "operate", False),
    (("operate_breaker",), "view", True),
    (("operate_breaker",), "operate", True),
]


@pytest.mark.parametrize(("has", "scope", "may"), GIVERS)
def test_who_lacks_a_right_makes_no_consumer_with_it(
    client: Client, has: tuple[str, ...], scope: str, may: bool
) -> None:
    giver = as_user(client, "add_consumer", *has)
    response = giver.post(f"{LIST}add/", SHOP | {"scopes": ["maker", scope]})

    assert (len(shown(response)), Consumer.objects.count()) == ((1, 1) if may else (0, 0))
    assert may or f"{scope} (breaker.{scope}_breaker)".encode() in response.content


@pytest.mark.parametrize(("has", "scope", "may"), GIVERS)
def test_who_lacks_a_right_gives_it_to_no_consumer(
    client: Client, shop: Consumer, has: tuple[str, ...], scope: str, may: bool
) -> None:
    giver = as_user(client, "change_consumer", *has)
    giver.post(f"{LIST}{shop.pk}/change/", FORMSET | {"scopes": ["maker", scope], "allow": ""})

    shop.refresh_from_db()
    assert (scope in shop.scopes) == may


@pytest.mark.parametrize(("has", "scope", "may"), GIVERS)
def test_who_lacks_a_right_gets_no_token_that_has_it(
    client: Client, has: tuple[str, ...], scope: str, may: bool
) -> None:
    tokens.issue("desk", **{scope: True})
    consumer = Consumer.objects.get()
    giver = as_user(client, "change_consumer", *has)
    response = giver.post(f"{LIST}{consumer.pk}/rotate/", sent_by_a_page(consumer), follow=True)

    assert len(shown(response)) == consumer.tokens.count() - 1 == int(may)


def test_who_lacks_a_right_may_leave_it_and_take_it_away(client: Client) -> None:
    tokens.issue("desk", operate=True)
    consumer = Consumer.objects.get()
    giver = as_user(client, "change_consumer")
    for scopes in (["checker", "operate"], ["maker"]):
        giver.post(f"{LIST}{consumer.pk}/change/", FORMSET | {"scopes": scopes, "allow": ""})
        consumer.refresh_from_db()
        assert consumer.scopes == scopes

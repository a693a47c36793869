"""Who gets into the admin: not who guesses passwords."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import IntegrityError, OperationalError
from django.test import Client, RequestFactory

from config.people import client_address
from mifos_gateway import tokens

LOGIN = "/admin/login/?next=/admin/"


@pytest.fixture
def ann(db: None) -> User:
    return User.objects.create_superuser("ann", password="right")


def log_in(client: Client, password: str = "right", name: str = "ann", **more: Any) -> Any:
    return client.post(LOGIN, {"username": name, "password": password}, **more)


def fail(client: Client, times: int, **more: Any) -> list[int]:
    return [log_in(client, "wrong", **more).status_code for _ in range(times)]


def test_the_fifth_failure_shuts_out_and_says_for_how_long(client: Client, ann: User) -> None:
    assert fail(client, 5) == [200, 200, 200, 200, 429]

    refused = log_in(client)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "900")
    assert b"15 minutes" in refused.content
    assert b"axes_reset" in refused.content


def made_older(attempt: AccessAttempt, minutes: int) -> None:
    AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=attempt.attempt_time - timedelta(minutes=minutes))


def test_who_is_shut_out_is_told_what_is_left_of_it(client: Client, ann: User) -> None:
    fail(client, 5)
    made_older(AccessAttempt.objects.get(), minutes=14)

    refused = log_in(client)
    assert 50 <= int(refused.headers["Retry-After"]) <= 60
    assert b"from this address for 1 minute." in refused.content


def test_it_ends_with_the_first_failure_that_there_had_to_be(client: Client, ann: User) -> None:
    for number in range(5):
        fail(client, 1, headers={"user-agent": f"browser {number}"})
    for number, attempt in enumerate(AccessAttempt.objects.order_by("attempt_time")):
        made_older(attempt, minutes=10 - number)

    assert 290 <= int(log_in(client).headers["Retry-After"]) <= 300


def test_an_address_that_is_shut_out_is_told_what_is_left_of_it(client: Client, ann: User, settings: Any) -> None:
    settings.ADDRESS_FAILURE_LIMIT = 10
    spray(client, 10)
    for number, attempt in enumerate(AccessAttempt.objects.order_by("attempt_time")):
        made_older(attempt, minutes=10 - number)

    assert 290 <= int(log_in(client).headers["Retry-After"]) <= 300


def test_a_login_forgets_the_failures_before_it(client: Client, ann: User) -> None:
    fail(client, 4)
    assert log_in(client).status_code == 302

    assert fail(Client(), 4) == [200] * 4


def test_another_name_and_another_address_are_not_shut_out(client: Client, ann: User) -> None:
    User.objects.create_superuser("ben", password="right")
    fail(client, 5)

    assert log_in(client, REMOTE_ADDR="192.0.2.7").status_code == 302
    assert log_in(Client(), name="ben").status_code == 302


def spray(client: Client, times: int, **more: Any) -> None:
    """One guess for each of many names."""
    for number in range(times):
        log_in(client, "wrong", name=f"name-{number}", **more)


def test_who_tries_many_names_is_turned_away_before_a_password_is_hashed(
    client: Client, ann: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ADDRESS_FAILURE_LIMIT = 10
    spray(client, 10)
    hashed: list[Any] = []
    monkeypatch.setattr(ModelBackend, "authenticate", lambda *args, **_: hashed.append(args))

    refused = log_in(client)
    assert (refused.status_code, hashed) == (429, [])
    assert b"After 10 failed logins nobody can log in from this address" in refused.content
    assert log_in(client, REMOTE_ADDR="192.0.2.7").status_code == 200
    assert len(hashed) == 1


def test_a_login_of_ones_own_does_not_forget_what_failed_with_other_names(
    client: Client, ann: User, settings: Any
) -> None:
    settings.ADDRESS_FAILURE_LIMIT = 10
    spray(client, 9)
    assert log_in(client).status_code == 302
    spray(Client(), 1)

    assert log_in(Client()).status_code == 429


def test_an_address_is_let_in_again_as_its_failures_pass(client: Client, ann: User, settings: Any) -> None:
    settings.ADDRESS_FAILURE_LIMIT = 10
    spray(client, 10)
    made_older(AccessAttempt.objects.order_by("attempt_time")[0], minutes=16)

    assert log_in(client).status_code == 302


@pytest.mark.parametrize(
    "fields", [{}, {"username": "ann"}, {"password": "right"}, {"username": "\0", "password": "x"}]
)
def test_a_form_that_is_not_filled_in_is_asked_for_again(client: Client, ann: User, fields: dict[str, str]) -> None:
    answer = client.post(LOGIN, fields)

    assert (answer.status_code, AccessAttempt.objects.count()) == (200, 0)


def test_another_browser_is_no_way_round(client: Client, ann: User) -> None:
    for number in range(5):
        fail(client, 1, headers={"user-agent": f"browser {number}"})

    assert log_in(client, headers={"user-agent": "another"}).status_code == 429


def test_it_ends_after_its_time_which_more_failures_do_not_prolong(client: Client, ann: User) -> None:
    fail(client, 5)
    began = AccessAttempt.objects.get().attempt_time
    fail(client, 3)
    assert AccessAttempt.objects.get().attempt_time == began

    AccessAttempt.objects.update(attempt_time=began - timedelta(minutes=16))
    assert log_in(client).status_code == 302


@pytest.mark.parametrize("command", [["axes_reset"], ["axes_reset_username", "ann"]])
def test_a_command_lets_in_again(client: Client, ann: User, command: list[str]) -> None:
    fail(client, 5)
    call_command(*command, stdout=StringIO())

    assert log_in(client).status_code == 302


def test_what_is_kept_of_a_failure_is_no_password(client: Client, ann: User) -> None:
    client.post(LOGIN, {"username": "ann", "password": "a-slip", "otp_token": "123456"})

    kept = str(AccessAttempt.objects.values())
    assert [word for word in ("a-slip", "123456") if word in kept] == []


def test_the_log_tells_the_shut_out_without_name_and_address(
    client: Client, ann: User, caplog: pytest.LogCaptureFixture
) -> None:
    fail(client, 5)

    told = [record.getMessage() for record in caplog.records if record.name.startswith("axes")]
    assert any("Locking out" in line for line in told)
    assert [line for line in told if '"ann"' in line or "127.0.0.1" in line] == []


def test_calls_of_the_api_are_neither_counted_nor_asked_about(client: Client, ann: User) -> None:
    fail(client, 5)
    token = tokens.issue("shop", view=True)
    answers = [
        client.get("/api/v1/circuit-breaker/MIFOS-Maker-get", headers={"authorization": f"Token {given}"}).status_code
        for given in [*["wrong"] * 6, token]
    ]

    assert (429 in answers, answers[-1]) == (False, 200)
    assert AccessAttempt.objects.count() == 1


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OperationalError("database is locked: hush"), 503, "The database can't be asked"),
        (IntegrityError("hush"), 500, "Server Error"),
    ],
)
def test_a_database_that_is_away_is_said_in_words(
    client: Client, ann: User, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("axes.handlers.database.AxesDatabaseHandler.get_failures", away)
    client.raise_request_exception = False
    answer = log_in(client)

    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, "5" if status == 503 else None)
    assert said in answer.content.decode()
    assert b"hush" not in answer.content


@pytest.mark.parametrize(
    ("header", "told", "found"),
    [
        (None, {}, "127.0.0.1"),
        (None, {"HTTP_X_REAL_IP": "192.0.2.9"}, "127.0.0.1"),  # nobody said that it may be believed
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": "192.0.2.9"}, "192.0.2.9"),
        ("HTTP_X_FORWARDED_FOR", {"HTTP_X_FORWARDED_FOR": "10.0.0.1, 192.0.2.9"}, "192.0.2.9"),
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": "2001:db8::1:2:3:4"}, "2001:db8::"),
        (None, {"REMOTE_ADDR": "::ffff:203.0.113.5"}, "203.0.113.5"),
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": "192.0.2.9:4711"}, "192.0.2.9"),
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": "[2001:db8::1:2:3:4]:4711"}, "2001:db8::"),
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": "[::ffff:192.0.2.9]"}, "192.0.2.9"),
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": "someone"}, None),
        ("HTTP_X_REAL_IP", {}, None),
    ],
)
def test_whose_failures_are_counted_together(settings: Any, header: str, told: dict[str, str], found: str) -> None:
    settings.CLIENT_ADDRESS_HEADER = header

    assert client_address(RequestFactory().post(LOGIN, **told)) == found


@pytest.mark.parametrize("where", ["https://elsewhere.example/", "//elsewhere.example", ""])
def test_a_way_on_that_is_not_ours_leads_to_the_index(client: Client, ann: User, where: str) -> None:
    answer = client.post(f"/admin/login/?next={where}", {"username": "ann", "password": "right", "next": where})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")


def test_the_site_has_a_name_of_its_own(client: Client, db: None) -> None:
    page = client.get(LOGIN).content.decode()

    assert "MIFOS gateway" in page
    assert "Django" not in page

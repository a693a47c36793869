"""A second factor for the admin: asked of who has one, or of all."""

import re
import time
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django_otp import devices_for_user
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

LOGIN = "/admin/login/?next=/admin/"


@pytest.fixture
def ann(db: None) -> User:
    return User.objects.create_superuser("ann", password="right")


@pytest.fixture
def app(ann: User) -> TOTPDevice:
    return TOTPDevice.objects.create(user=ann, name="app")


def code(device: TOTPDevice, seconds_ago: float = 0.0) -> str:
    """What the user's authenticator shows."""
    clock = TOTP(device.bin_key, device.step, device.t0, device.digits)
    clock.time = time.time() - seconds_ago
    return f"{clock.token():06d}"


def log_in(client: Client, **fields: str) -> Any:
    return client.post(LOGIN, {"username": "ann", "password": "right"} | fields)


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_who_has_none_is_not_asked(client: Client, ann: User) -> None:
    assert b"otp_token" not in client.get(LOGIN).content
    log_in(client)

    assert is_in(client)


def test_who_has_one_is_asked_after_the_password_and_let_in_by_the_code(client: Client, app: TOTPDevice) -> None:
    asked = log_in(client)
    assert b"enter the code" in asked.content
    assert not is_in(client)

    log_in(client, otp_device=app.persistent_id, otp_token=code(app))
    assert is_in(client)


def test_the_page_that_asks_is_in_no_cache(client: Client, app: TOTPDevice) -> None:
    assert "no-store" in log_in(client).headers["Cache-Control"]  # it holds the password, to be sent again


@pytest.mark.parametrize("given", ["000000", "", "x", "\0", "9" * 200])
def test_a_wrong_code_lets_nobody_in(client: Client, app: TOTPDevice, given: str) -> None:
    wrong = given if given != code(app) else "111111"
    refused = log_in(client, otp_device=app.persistent_id, otp_token=wrong)

    assert refused.status_code == 200
    assert not is_in(client)


def test_a_code_is_good_once(client: Client, app: TOTPDevice) -> None:
    given = code(app)
    log_in(client, otp_device=app.persistent_id, otp_token=given)
    other = Client()
    log_in(other, otp_device=app.persistent_id, otp_token=given)

    assert (is_in(client), is_in(other)) == (True, False)


def test_an_old_code_and_a_wrong_password_let_nobody_in(client: Client, app: TOTPDevice) -> None:
    log_in(client, otp_device=app.persistent_id, otp_token=code(app, seconds_ago=600))
    log_in(client, otp_device=app.persistent_id, otp_token=code(app), password="wrong")

    assert not is_in(client)


def test_a_device_of_another_is_no_device_of_ones_own(client: Client, app: TOTPDevice) -> None:
    ben = TOTPDevice.objects.create(user=User.objects.create_superuser("ben"), name="app")
    log_in(client, otp_device=ben.persistent_id, otp_token=code(ben))

    assert not is_in(client)


@pytest.mark.parametrize(
    "named", ["", "x", "os/1", "otp_totp.totpdevice/x", "otp_totp.totpdevice/999", "a.b/" + "9" * 30]
)
def test_a_device_that_is_none_lets_nobody_in(client: Client, app: TOTPDevice, named: str) -> None:
    refused = log_in(client, otp_device=named, otp_token=code(app))

    assert (refused.status_code, is_in(client)) == (200, False)


def test_one_that_is_not_confirmed_is_not_asked_for(client: Client, app: TOTPDevice) -> None:
    TOTPDevice.objects.update(confirmed=False)
    log_in(client)

    assert is_in(client)


def test_where_it_is_required_who_has_none_stays_outside(client: Client, ann: User, settings: Any) -> None:
    settings.ADMIN_REQUIRE_OTP = True

    page = log_in(client).content
    assert b"has none yet" in page
    assert not is_in(client)
    assert [word for word in (b"otp_token", b'value="right"') if word in page] == []


def test_where_it_becomes_required_a_session_without_it_ends(client: Client, app: TOTPDevice, settings: Any) -> None:
    client.force_login(app.user)
    settings.ADMIN_REQUIRE_OTP = True
    assert not is_in(client)

    log_in(client, otp_device=app.persistent_id, otp_token=code(app))
    assert is_in(client)


def test_a_device_that_is_taken_away_takes_its_sessions_with_it(client: Client, app: TOTPDevice, settings: Any) -> None:
    settings.ADMIN_REQUIRE_OTP = True
    log_in(client, otp_device=app.persistent_id, otp_token=code(app))
    app.delete()

    assert not is_in(client)


def enrol(*more: str) -> str:
    told = StringIO()
    call_command("add_second_factor", "ann", *more, stdout=told)
    return told.getvalue()


def test_the_command_gives_the_first_superuser_an_app_and_recovery_codes(
    client: Client, ann: User, settings: Any
) -> None:
    settings.ADMIN_REQUIRE_OTP = True
    told = enrol()
    app, recovery = TOTPDevice.objects.get(), StaticDevice.objects.get()

    assert app.config_url in told
    assert "issuer=MIFOS%20gateway" in told
    assert "█" in told
    codes = re.findall(r"^[a-z2-7]{8}$", told, re.MULTILINE)
    assert len(codes) == 10
    log_in(client, otp_device=app.persistent_id, otp_token=code(app))
    other, again = Client(), Client()
    for each in (other, again):
        log_in(each, otp_device=recovery.persistent_id, otp_token=codes[0])
    assert [is_in(each) for each in (client, other, again)] == [True, True, False]


def test_the_command_ends_the_user_s_sessions_and_no_other_s(client: Client, admin_client: Client, ann: User) -> None:
    log_in(client)
    assert (is_in(client), is_in(admin_client)) == (True, True)
    enrol()

    assert (is_in(client), is_in(admin_client)) == (False, True)


def test_the_command_replaces_only_when_told_to(ann: User) -> None:
    enrol()
    before = {device.persistent_id for device in devices_for_user(ann)}
    with pytest.raises(CommandError, match="--replace"):
        enrol()
    assert {device.persistent_id for device in devices_for_user(ann)} == before

    enrol("--replace")
    after = [device.persistent_id for device in devices_for_user(ann)]
    assert (len(after), before & set(after)) == (2, set())


def test_an_operator_gives_one_to_a_user_and_shows_its_picture(admin_client: Client, ann: User) -> None:
    form = admin_client.get("/admin/otp_totp/totpdevice/add/").context["adminform"].form
    fields = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    given = {name: value for name, value in fields.items() if value is not None} | {"user": ann.pk, "name": "phone"}
    made = admin_client.post("/admin/otp_totp/totpdevice/add/", given)
    device = TOTPDevice.objects.get()

    assert made.status_code == 302
    page = admin_client.get(f"/admin/otp_totp/totpdevice/{device.pk}/config/")
    assert device.config_url.replace("&", "&amp;") in page.content.decode()
    picture = admin_client.get(f"/admin/otp_totp/totpdevice/{device.pk}/qrcode/")
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/svg+xml")


@pytest.fixture
def looker(client: Client, db: None) -> Client:
    """Somebody who may do all with devices, and is no superuser."""
    user = User.objects.create_user("lou", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label__in=("otp_totp", "otp_static")))
    client.force_login(user)
    return client


def test_no_page_shows_a_key_to_who_is_no_superuser(looker: Client, app: TOTPDevice) -> None:
    pages = [looker.get(f"/admin/otp_totp/totpdevice/{where}") for where in ("", "add/", f"{app.pk}/change/")]

    assert [page.status_code for page in pages] == [200, 200, 200]
    told = "".join(page.content.decode() for page in pages)
    assert [word for word in (app.key, 'name="key"', "qrcode") if word in told] == []


@pytest.mark.parametrize("page", ["config", "qrcode"])
def test_the_picture_is_for_superusers_alone(looker: Client, app: TOTPDevice, page: str) -> None:
    assert looker.get(f"/admin/otp_totp/totpdevice/{app.pk}/{page}/").status_code == 403


def test_a_key_is_not_told_by_what_fits_it(looker: Client, app: TOTPDevice) -> None:
    assert looker.get(f"/admin/otp_totp/totpdevice/?key__startswith={app.key[0]}").status_code == 400


def test_no_page_shows_a_recovery_code_to_who_is_no_superuser(looker: Client, ann: User) -> None:
    device = StaticDevice.objects.create(user=ann, name="codes")
    device.token_set.create(token="a-recovery-code")

    page = looker.get(f"/admin/otp_static/staticdevice/{device.pk}/change/")
    assert (page.status_code, b"a-recovery-code" in page.content) == (200, False)
    assert looker.get("/admin/otp_static/staticdevice/?token_set__token__startswith=a").status_code == 400


def test_a_superuser_sees_key_and_codes(admin_client: Client, app: TOTPDevice) -> None:
    device = StaticDevice.objects.create(user=app.user, name="codes")
    device.token_set.create(token="a-recovery-code")

    assert app.key in admin_client.get(f"/admin/otp_totp/totpdevice/{app.pk}/change/").content.decode()
    assert b"a-recovery-code" in admin_client.get(f"/admin/otp_static/staticdevice/{device.pk}/change/").content

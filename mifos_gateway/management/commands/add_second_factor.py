"""Give a user a second factor for the admin."""

from argparse import ArgumentParser
from io import StringIO
from typing import Any

import qrcode
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.models import Session
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone
from django_otp import devices_for_user
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

RECOVERY_CODES = 10


class Command(BaseCommand):
    help = (
        "Print the QR code of a new second factor (TOTP) for USERNAME, to be scanned by an authenticator app, and "
        f"{RECOVERY_CODES} recovery codes, each good once. Only superusers can see them again, in the admin. The "
        "user's sessions end, and from the next login on the admin asks for a code."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", metavar="USERNAME")
        parser.add_argument("--replace", action="store_true", help="instead of those there are: the phone is lost, say")

    @transaction.atomic
    def handle(self, *, username: str, replace: bool, **_: Any) -> None:
        user = get_user_model().objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"there is no user {username!r}")
        existing = list(devices_for_user(user, confirmed=None))
        if existing and not replace:
            raise CommandError(f"{username} has a second factor: --replace takes it away and makes a new one")
        for device in existing:
            device.delete()
        app = TOTPDevice.objects.create(user=user, name="authenticator app")
        recovery = StaticDevice.objects.create(user=user, name="recovery code")
        codes = [recovery.token_set.create(token=StaticToken.random_token()).token for _ in range(RECOVERY_CODES)]
        _end_sessions(user)
        self.stdout.write("\n".join([_picture(app.config_url), app.config_url, "", "Recovery codes:", *codes]))


def _end_sessions(user: AbstractBaseUser) -> None:
    """Those from before the second factor would go on without it until they end by themselves."""
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get(SESSION_KEY) == str(user.pk):
            session.delete()


def _picture(text: str) -> str:
    drawn = StringIO()
    code = qrcode.QRCode(border=2)
    code.add_data(text)
    code.print_ascii(drawn, invert=True)  # most terminals are dark
    return drawn.getvalue()

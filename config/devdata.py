"""Prepares the database of a development run: its migrations, an admin user, a token to try.

Run as a program by `make up`, so that its supervisor needs no Django. What it makes is kept in var/<port>/kept.
"""

import os
import secrets
import sys
from pathlib import Path

from config import devstate, production

CONSUMER = "try-me"


def prepare(kept_path: Path, port: str) -> None:
    from django.core.management import call_command
    from django.db.utils import Error

    try:
        call_command("migrate", verbosity=0, interactive=False)
        kept = devstate.load(kept_path)
        kept |= _admin(kept, port) | {"token": _token(kept.get("token", ""))}
        devstate.save(kept_path, kept)
    except Error as error:
        sys.exit(f"DATABASE_URL: the database can't be prepared: {str(error).strip()}")


def _admin(kept: dict[str, str], port: str) -> dict[str, str]:
    """The user of before, with the password of before; never another's who has that name in a shared database."""
    from django.contrib.auth import get_user_model

    users = get_user_model().objects
    name, password = kept.get("admin_user", ""), kept.get("admin_password", "")
    user = users.filter(username=name).first() if name else None
    if user and user.check_password(password) and user.is_active and user.is_superuser:
        return {}
    if not user and not users.filter(username=name or "admin").exists():
        name = name or "admin"
    else:
        name = f"admin-{port}-{secrets.token_hex(2)}"
    password = password if not user and password else secrets.token_urlsafe(12)
    users.create_superuser(name, "", password)
    return {"admin_user": name, "admin_password": password}


def _token(former: str) -> str:
    """The token of before while it is good for both clients, so that starts pile up none."""
    from mifos_gateway import tokens

    identity = tokens.find(tokens.digest(former)) if former else None
    if identity and identity.may("maker") and identity.may("checker"):
        return former
    return tokens.issue(CONSUMER, maker=True, checker=True)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    production.announce_warnings()
    prepare(devstate.folder() / "kept", os.environ["PORT"])

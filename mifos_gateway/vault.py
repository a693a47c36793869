"""Bodies of others' calls at rest: encrypted by the settings' keys, the first of which writes and all of which read.

Fernet: AES-128-CBC with HMAC-SHA-256, and the time of writing. Without keys one is derived from Django's SECRET_KEY,
and its SECRET_KEY_FALLBACKS are read as well.
"""

from __future__ import annotations

import base64
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.signals import setting_changed

from mifos_gateway import conf


class Unreadable(ValueError):
    """Not ours, changed, or written with a key that is gone."""


def seal(content: bytes) -> bytes:
    return _vault().encrypt(content)


def unseal(sealed: bytes) -> bytes:
    try:
        return _vault().decrypt(sealed)
    except (InvalidToken, TypeError):
        raise Unreadable("this cannot be read with the keys that there are") from None


@cache
def _vault() -> MultiFernet:
    keys = conf.gateway().payload_keys or [_derived(one) for one in (settings.SECRET_KEY, *_former())]
    return MultiFernet([Fernet(key) for key in keys])


def _former() -> list[str]:
    return list(getattr(settings, "SECRET_KEY_FALLBACKS", []))


def _derived(secret: str) -> bytes:
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"mifos-gateway payloads")
    return base64.urlsafe_b64encode(derive.derive(secret.encode()))


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("GATEWAY", "SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        _vault.cache_clear()


setting_changed.connect(_forget)

"""Django's settings for tests: what the environment says to the person who runs them doesn't count."""

import os

from config.env import NAMES

for name in NAMES:
    os.environ.pop(name, None)
    os.environ.pop(f"{name}_FILE", None)
for name in [name for name in os.environ if name.startswith("OTEL_")]:
    del os.environ[name]
os.environ |= {
    "DJANGO_DEBUG": "false",
    "DJANGO_SECRET_KEY": "for-the-tests-only-" + "x" * 40,
    "DJANGO_ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
    "DJANGO_SECURE_SSL_REDIRECT": "false",
    "MIFOS_BASE_URL": "http://mifos.invalid/fineract-provider",
    "MIFOS_MAKER_USERNAME": "test-maker",
    "MIFOS_MAKER_PASSWORD": "test-maker-password",
    "MIFOS_CHECKER_USERNAME": "test-checker",
    "MIFOS_CHECKER_PASSWORD": "test-checker-password",
}

from config.settings import *  # noqa: E402,F403 - the settings read the environment above

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
LOGGING_CONFIG = None  # records stay with Python's own root, where caplog finds them
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
BREAKER = {**BREAKER, "HISTORY": False}  # noqa: F405 - no thread beside the tests writes to their database

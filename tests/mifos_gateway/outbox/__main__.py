"""The long profile of the outbox's model: python -m tests.mifos_gateway.outbox [--steps N] [--seconds N] [--seed N]"""

import logging
import os
import sys

import django


def prepare() -> None:
    """A database in this process's memory."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    logging.disable(logging.CRITICAL)
    from tests import proving
    from tests.mifos_gateway.outbox.schedules import Schedule, profile

    sys.exit(
        proving.main(
            Schedule,
            profile,
            description="the outbox, its callers, runners and operators",
            steps=60_000,
            seconds=900,
            prepare=prepare,
        )
    )

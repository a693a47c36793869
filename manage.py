#!/usr/bin/env python
"""Django's command line, with a bad environment told in words."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from config.env import BadEnvironment

    try:
        settings.INSTALLED_APPS  # noqa: B018 - reads the settings now, before a command hides why it can't
    except BadEnvironment as error:
        sys.exit(str(error))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()

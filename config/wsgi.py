"""The application for a WSGI server, which starts only where a production start may."""

import os

from config import devstate

devstate.serving = True
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.wsgi import get_wsgi_application  # noqa: E402 - the line above decides what settings read

application = get_wsgi_application()

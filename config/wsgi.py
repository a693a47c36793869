"""The application for a WSGI server; a production start that must not be ends here, whatever the server."""

import contextlib
import os

from config import devstate, production

devstate.serving = True
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# gunicorn.conf.py has asked once, in the master: a worker that is replaced while the database is away must boot.
if not devstate.start_checked:
    production.refuse_to_serve()
    devstate.start_checked = True

from django.core.exceptions import ImproperlyConfigured  # noqa: E402 - settings are read after the lines above
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import resolve  # noqa: E402

application = get_wsgi_application()

from mifos_gateway import guard  # noqa: E402 - needs the apps

# Now, so that no caller waits for the views' imports or for the certificates to be read.
resolve("/api/v1/mifos/maker/clients")
with contextlib.suppress(ImproperlyConfigured, ValueError):  # what is wrong with MIFOS's settings each call says
    guard.current()

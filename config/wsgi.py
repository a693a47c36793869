"""The application for a WSGI server; a production start that must not be ends here, whatever the server."""

import os

from config import devstate, production

devstate.serving = True
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# gunicorn.conf.py has asked once, in the master: a worker that is replaced while the database is away must boot.
if not devstate.start_checked:
    production.refuse_to_serve()
    devstate.start_checked = True

from django.core.wsgi import get_wsgi_application  # noqa: E402 - settings are read after the lines above

application = get_wsgi_application()

"""What a production start is refused for, all of it told at once.

Run as a program (`python -m config.production`) by gunicorn's master, which so stays free of Django and takes up
new code at a reload; called by `config.wsgi` under any other server. It changes nothing and never migrates.
"""

import http.client
import logging
import os
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from config import devstate, env

log = logging.getLogger("config")

REFUSED = 3  # the exit code; gunicorn's own for a worker that can't boot
PROBE_SECONDS = 2
# Django's own measure of a key (its check security.W009).
KEY_LENGTH = 50
KEY_CHARACTERS = 5
# The stand-in's two users (mifos_gateway.sandbox), which no real MIFOS should have.
SANDBOX_PASSWORDS = {"sandbox-maker", "sandbox-checker"}

REQUIRED = {
    "DJANGO_SECRET_KEY": "set it to 50 random characters or more, the same on every host",
    "DJANGO_ALLOWED_HOSTS": "set it to the host names that callers use, comma-separated",
    "DATABASE_URL": "set it to postgres://user:password@host:5432/name",
    "REDIS_URL": "set it to redis://host:6379/0, the same on every host",
    "MIFOS_BASE_URL": "set it to MIFOS's address, such as https://mifos.example.org/fineract-provider",
    "MIFOS_MAKER_USERNAME": "set it to the technical user that creates",
    "MIFOS_MAKER_PASSWORD": "set it, or MIFOS_MAKER_PASSWORD_FILE to a file that holds it",
    "MIFOS_CHECKER_USERNAME": "set it to the technical user that approves",
    "MIFOS_CHECKER_PASSWORD": "set it, or MIFOS_CHECKER_PASSWORD_FILE to a file that holds it",
}


def refusals(values: dict[str, Any]) -> list[str]:
    """Every reason, each naming its variable and the remedy; none in development mode."""
    if values["DJANGO_DEBUG"]:
        return []
    return [*_missing(values), *_weak_key(values), *_sandbox(values), *_failed_checks(values), *_database(values)]


def _missing(values: dict[str, Any]) -> Iterator[str]:
    for name, remedy in REQUIRED.items():
        if not values[name]:
            yield f"{name} is unset: {remedy}"


def _weak_key(values: dict[str, Any]) -> Iterator[str]:
    """Never shown: a weak key may be part of a good one that was cut."""
    key = values["DJANGO_SECRET_KEY"]
    if key and (len(key) < KEY_LENGTH or len(set(key)) < KEY_CHARACTERS):
        yield f"DJANGO_SECRET_KEY is too easy to guess: {REQUIRED['DJANGO_SECRET_KEY']}"


def _sandbox(values: dict[str, Any]) -> Iterator[str]:
    for name in ("MIFOS_MAKER_PASSWORD", "MIFOS_CHECKER_PASSWORD"):
        if values[name] in SANDBOX_PASSWORDS:
            yield f"{name} is the sandbox's: set it to that of the real MIFOS's technical user"
    if values["MIFOS_BASE_URL"] and is_sandbox(values["MIFOS_BASE_URL"], values["MIFOS_CA_BUNDLE"]):
        yield "MIFOS_BASE_URL is the sandbox's, which forgets everything: set it to the real MIFOS's address"


def is_sandbox(base_url: str, ca_bundle: str | None = None) -> bool:
    """Asks it, for 2 s at most; a MIFOS that can't be reached may be real, and the breakers are there for that."""
    answers: list[bool] = []
    # In a thread, because a socket's time limit covers neither a name's look-up nor a dripping answer.
    asking = threading.Thread(target=lambda: answers.append(_says_sandbox(base_url, ca_bundle)), daemon=True)
    asking.start()
    asking.join(PROBE_SECONDS)
    return any(answers)


def _says_sandbox(base_url: str, ca_bundle: str | None) -> bool:
    url = urlsplit(base_url)
    host = url.hostname or ""
    connection: http.client.HTTPConnection
    try:
        if url.scheme == "https":
            folder = ca_bundle if ca_bundle and Path(ca_bundle).is_dir() else None
            context = ssl.create_default_context(cafile=None if folder else ca_bundle, capath=folder)
            connection = http.client.HTTPSConnection(host, url.port, timeout=PROBE_SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection(host, url.port, timeout=PROBE_SECONDS)
        with closing(connection):
            connection.request("GET", "/__sandbox", headers={"Connection": "close"})
            return connection.getresponse().getheader("X-Mifos-Sandbox") is not None
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _failed_checks(values: dict[str, Any]) -> Iterator[str]:
    """What Django's checks find wrong with the settings, the breakers' options among it."""
    yield from _checked(serious=True)


def announce_warnings() -> None:
    """What Django's checks find doubtful: it stops no start, and nobody would hear of it otherwise."""
    for told in _checked(serious=False):
        log.warning("%s", told)


def _checked(*, serious: bool) -> Iterator[str]:
    from django.core import checks

    for problem in checks.run_checks():
        if problem.is_serious() is serious and not problem.is_silenced():
            yield f"{problem.id}: {problem.msg}" + (f" ({problem.hint})" if problem.hint else "")


def _database(values: dict[str, Any]) -> Iterator[str]:
    from django.db import connection, utils
    from django.db.migrations.executor import MigrationExecutor

    if not values["DATABASE_URL"]:
        return
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite" and not Path(name).exists():  # asking would make an empty one
        yield f"DATABASE_URL: {name} is not there: run `python manage.py migrate` first"
        return
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except utils.Error as error:
        reason = str(error).strip().splitlines()[0]
        yield f"DATABASE_URL: the database can't be asked whether its migrations are applied ({reason})"
    else:
        if plan:
            names = ", ".join(f"{step.app_label}.{step.name}" for step, _ in plan[:3])
            more = f" and {len(plan) - 3} more" if len(plan) > 3 else ""
            yield f"DATABASE_URL: unapplied migrations ({names}{more}): run `python manage.py migrate` first"
    finally:
        connection.close()


def refuse_to_serve() -> None:
    """Ends the process with words, not with a traceback, when this environment must not serve."""
    devstate.serving = True
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        values = env.read()
    except env.BadEnvironment as error:
        refuse_bad_environment(error)
    if values["DJANGO_DEBUG"]:
        return
    import django

    django.setup()
    if found := refusals(values):
        refuse(found)
    announce_warnings()


def refuse_bad_environment(error: env.BadEnvironment) -> NoReturn:
    """With what is missing or weak besides, so that one correction is enough."""
    wrong, found = " ".join(error.problems), error.found
    besides = [] if found["DJANGO_DEBUG"] else [*_missing(found), *_weak_key(found)]
    refuse([*error.problems, *(each for each in besides if each.split()[0] not in wrong)])


def refuse(problems: list[str]) -> NoReturn:
    print("mifos-gateway does not start:", *(f"  * {each}" for each in problems), sep="\n", file=sys.stderr, flush=True)
    sys.exit(REFUSED)


if __name__ == "__main__":
    refuse_to_serve()

"""A production start by real gunicorn: what it is refused for, and that it serves otherwise."""

import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from config import devstate, production
from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.gateway import CHECKOUT, clean_environ
from tests.programs import free_port, wait_for

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.conf.py", "config.wsgi"]


@pytest.fixture
def complete(tmp_path: Path) -> dict[str, str]:
    """All that a production start asks for; its database is migrated, its MIFOS and Redis don't answer."""
    return clean_environ(
        PORT=str(free_port()),
        DJANGO_SECRET_KEY="k" * 25 + "0123456789" * 3,
        DJANGO_ALLOWED_HOSTS="127.0.0.1",
        DATABASE_URL=f"sqlite:///{tmp_path / 'db.sqlite3'}",
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
        MIFOS_BASE_URL=f"http://127.0.0.1:{free_port()}/fineract-provider",
        MIFOS_MAKER_USERNAME="technical-maker",
        MIFOS_MAKER_PASSWORD="one",
        MIFOS_CHECKER_USERNAME="technical-checker",
        MIFOS_CHECKER_PASSWORD="two",
        WEB_CONCURRENCY="1",
    )


@pytest.fixture
def migrated(complete: dict[str, str]) -> dict[str, str]:
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], env=complete, cwd=CHECKOUT, check=True, timeout=60)
    return complete


def start(environ: dict[str, str], command: list[str] = GUNICORN) -> subprocess.CompletedProcess[str]:
    """For starts that are refused; one that isn't fails by the time limit."""
    return subprocess.run(command, env=environ, cwd=CHECKOUT, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("command", [GUNICORN, [sys.executable, "-m", "gunicorn", "config.wsgi", "-b", "127.0.0.1:0"]])
def test_a_start_without_settings_names_all_that_is_missing(command):
    refused = start(clean_environ(PORT=str(free_port())), command)

    assert refused.returncode != 0
    assert [name for name in production.REQUIRED if f"{name} is unset" not in refused.stderr] == []
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("name", production.REQUIRED)
def test_each_missing_setting_alone_is_refused(complete, name):
    values = dict.fromkeys(production.REQUIRED, "x") | {"MIFOS_BASE_URL": "", "MIFOS_CA_BUNDLE": None, name: None}

    assert f"{name} is unset" in " ".join(production._missing(values))


@pytest.mark.parametrize("key", ["hush-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEF", "hus" * 20])
def test_a_weak_secret_key_is_refused_and_not_shown(migrated, key):
    refused = start(migrated | {"DJANGO_SECRET_KEY": key})

    assert refused.returncode == production.REFUSED
    assert "DJANGO_SECRET_KEY is too easy to guess: set it to 50 random characters or more" in refused.stderr
    assert "hus" not in refused.stderr


def test_bad_values_and_missing_ones_are_told_together():
    refused = start(clean_environ(PORT="x", BREAKER_TIMEOUT="30000", DJANGO_SECRET_KEY="here"))

    assert refused.returncode == production.REFUSED
    assert [part in refused.stderr for part in ("PORT=x", "BREAKER_TIMEOUT=30000", "REDIS_URL is unset")] == [True] * 3
    assert "DJANGO_SECRET_KEY is unset" not in refused.stderr
    assert "DJANGO_SECRET_KEY is too easy to guess" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_unapplied_migrations_are_refused_and_not_applied(complete, tmp_path):
    refused = start(complete)

    assert refused.returncode == production.REFUSED
    assert "DATABASE_URL" in refused.stderr
    assert "migrate" in refused.stderr
    assert not (tmp_path / "db.sqlite3").exists()


def test_a_database_that_lacks_the_latest_migrations_is_refused(complete):
    command = [sys.executable, "manage.py", "migrate", "-v0", "auth"]
    subprocess.run(command, env=complete, cwd=CHECKOUT, check=True, timeout=60)

    refused = start(complete)

    assert refused.returncode == production.REFUSED
    assert "unapplied migrations" in refused.stderr


def test_a_database_that_is_away_is_refused_in_words(complete):
    refused = start(complete | {"DATABASE_URL": f"postgres://gateway:hush@127.0.0.1:{free_port()}/gateway"})

    assert refused.returncode == production.REFUSED
    assert "DATABASE_URL: the database can't be asked" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hush" not in refused.stderr


def test_the_sandbox_is_refused(migrated):
    with Sandbox(port=0) as mifos:
        refused = start(migrated | {"MIFOS_BASE_URL": mifos.base_url})

    assert refused.returncode == production.REFUSED
    assert "MIFOS_BASE_URL is the sandbox's" in refused.stderr


def test_the_sandbox_s_passwords_are_refused(migrated):
    refused = start(migrated | {"MIFOS_CHECKER_PASSWORD": "sandbox-checker"})

    assert refused.returncode == production.REFUSED
    assert "MIFOS_CHECKER_PASSWORD is the sandbox's" in refused.stderr


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], str]]:
    """Starts gunicorn and gives its address once it serves; ends it after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start_serving(environ: dict[str, str], *more: str) -> str:
        log = open(tmp_path / "log", "wb")  # noqa: SIM115 - the child has its own
        process = subprocess.Popen([*GUNICORN, *more], env=environ, cwd=CHECKOUT, stdout=log, stderr=log)
        log.close()
        started.append(process)
        url = f"http://127.0.0.1:{environ['PORT']}"

        def serves() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                return requests.get(f"{url}/livez", timeout=1).ok
            except requests.RequestException:
                return False

        wait_for(serves, "gunicorn serves")
        return url

    yield start_serving
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("preload", ["false", "true"])
def test_with_all_of_them_it_serves_though_mifos_and_redis_are_away(migrated, serve, preload):
    url = serve(migrated | {"GUNICORN_PRELOAD": preload})

    assert requests.get(f"{url}/api/v1/circuit-breaker/status", timeout=5).status_code == 200


def test_it_serves_on_postgresql_once_its_migrations_are_applied(complete, serve, postgres):
    environ = complete | {"DATABASE_URL": postgres.url}
    refused = start(environ)
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], env=environ, cwd=CHECKOUT, check=True, timeout=60)

    url = serve(environ)

    assert "unapplied migrations" in refused.stderr
    assert requests.get(f"{url}/readyz", timeout=5).status_code == 200


DOUBTFUL = {"BREAKER_OPTIONS": '{"MIFOS-Maker-gte": {"timeout": 60}}', "WEB_THREADS": "2"}


def test_what_is_doubtful_is_announced_and_stops_no_start(migrated, serve, tmp_path):
    serve(migrated | DOUBTFUL)

    log = (tmp_path / "log").read_text()
    assert "The closest is 'MIFOS-Maker-get'" in log
    assert "Set WEB_THREADS to 3 at least." in log


def test_what_is_doubtful_is_announced_by_make_up(tmp_path):
    port = str(free_port())
    environ = clean_environ(
        PORT=port, DJANGO_DEBUG="true", DATABASE_URL=f"sqlite:///{tmp_path / 'db.sqlite3'}", **DOUBTFUL
    )
    prepared = start(environ, [sys.executable, "-m", "config.devdata"])
    shutil.rmtree(devstate.folder(port))

    assert prepared.returncode == 0
    assert "The closest is 'MIFOS-Maker-get'" in prepared.stderr


def test_static_files_are_served_without_collecting(migrated, serve):
    url = serve(migrated)

    assert requests.get(f"{url}/static/admin/css/base.css", timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("environ", "status"), [({}, 301), ({"DJANGO_SECURE_PROXY_SSL_HEADER": "X-Forwarded-Proto"}, 200)]
)
def test_people_s_pages_are_sent_to_https_unless_the_proxy_that_is_trusted_did_it(migrated, serve, environ, status):
    url = f"{serve(migrated | environ)}/admin/login/"
    by_proxy = requests.get(url, timeout=5, headers={"X-Forwarded-Proto": "https"}, allow_redirects=False)

    assert requests.get(url, timeout=5, allow_redirects=False).status_code == 301
    assert by_proxy.status_code == status


def test_secrets_may_come_from_files(migrated, serve, tmp_path):
    for name in ("DJANGO_SECRET_KEY", "MIFOS_MAKER_PASSWORD", "DATABASE_URL", "REDIS_URL"):
        (tmp_path / name).write_text(migrated.pop(name) + "\n")
        migrated[f"{name}_FILE"] = str(tmp_path / name)

    assert serve(migrated)


def test_what_make_up_chose_is_not_for_a_production_start(monkeypatch, complete):
    # In the checkout itself, under a port that nobody uses: gunicorn looks there and nowhere else.
    folder = devstate.folder(complete["PORT"])
    devstate.save(folder / "env", complete | {"DJANGO_DEBUG": "true"})
    try:
        refused = start(clean_environ(PORT=complete["PORT"]))
    finally:
        (folder / "env").unlink()
        folder.rmdir()

    assert refused.returncode == production.REFUSED
    assert "DJANGO_SECRET_KEY is unset" in refused.stderr


def test_a_mifos_that_never_finishes_answering_is_taken_for_real(monkeypatch):
    monkeypatch.setattr(production, "PROBE_SECONDS", 0.2)
    release = threading.Event()

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            release.wait(20)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = production.is_sandbox(f"http://127.0.0.1:{server.server_address[1]}/x")
        release.set()
        server.shutdown()

    assert found is False


def manage(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return start(clean_environ(**environ), [sys.executable, "manage.py", *words])


def test_manage_py_check_names_all_bad_values_without_a_traceback():
    checked = manage("check", BREAKER_TIMEOUT="30000", DJANGO_DEBUG="yess", MIFOS_CA_BUNDLE="/nope")

    assert checked.returncode != 0
    assert "BREAKER_TIMEOUT=30000" in checked.stderr
    assert "DJANGO_DEBUG=yess" in checked.stderr
    assert "MIFOS_CA_BUNDLE=/nope: " in checked.stderr
    assert "Traceback" not in checked.stderr


def test_manage_py_works_without_any_setting():
    assert manage("check", PORT="18499").returncode == 0

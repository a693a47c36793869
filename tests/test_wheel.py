"""Somebody else's project, which installs the wheel and adds `breaker` to its apps; it has nothing of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.programs import RedisServer

ROOT = Path(__file__).parent.parent
PACKED = ("breaker", "mifos_gateway", "pyproject.toml", "README.md", "LICENSE")
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

URLS = """
from django.contrib import admin
from django.urls import path
from health_check.views import HealthCheckView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("health/", HealthCheckView.as_view(checks=["breaker.health_check.CircuitBreakers"])),
]
"""
APP = """
from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        import shop.payments
"""
PAYMENTS = """
import time
from pathlib import Path

from django.dispatch import receiver

from breaker.registry import create_circuit_breaker
from breaker.signals import call_rejected, operator_acted, state_changed

heard = []


@receiver([state_changed, call_rejected])
def hear(breaker, **said):
    heard.append((breaker, said.get("to_state") or said["reason"]))


@receiver(operator_acted)
def note(breaker, operation, source, reason, **more):
    time.sleep(0.5)
    Path("acts").write_text(f"{breaker}: {operation} by {source}, for {reason}")


@create_circuit_breaker(name="payments", volume_threshold=2)
def pay(amount):
    if amount < 0:
        raise ValueError(amount)
    return "paid"
"""
DAY = """
import contextlib
import sys

import django

django.setup()

from django.contrib.auth.models import User
from django.test import Client

from breaker.engine.circuit import CallRejected
from breaker.testing import signals_sent
from shop.payments import heard, pay

browser = Client(SERVER_NAME="localhost")
browser.force_login(User.objects.create_superuser("ada", password="for-the-tests-only"))


def board():
    answer = browser.get("/admin/breaker/")
    return answer.status_code, "payments" in answer.content.decode()


assert pay(5) == "paid"
assert browser.get("/health/").status_code == 200
assert board() == (200, True)
for _ in range(3):
    with contextlib.suppress(ValueError, CallRejected):
        pay(-1)
assert pay.breaker.current_state == "open", pay.breaker.current_state
assert browser.get("/health/?format=text").content.decode().endswith("Unavailable: open: payments\\n")
assert board() == (200, True)
assert browser.get("/admin/breaker/payments/").status_code == 200
assert signals_sent()
assert sorted(heard) == [("payments", "OPEN"), ("payments", "open")], heard  # a change, and a call that it rejected
ours = {name.split(".")[0] for name in sys.modules} & {"mifos_gateway", "config", "requests"}
assert not ours, ours
print("a good day")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since building leaves its marks; by the build backend that is here, with no network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    run(sys.executable, *PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", out, source)
    (made,) = out.glob("*.whl")
    return made


PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment's, which has the wheel, with the extra `health`, and what that declares."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    made = folder / "bin" / "python"
    packages = Path(run(made, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    run(sys.executable, *PIP, "install", "--no-deps", "--no-index", "--no-compile", "--target", packages, wheel)
    lend(declared(["health"]), packages)
    return made


class Project:
    """What `django-admin startproject shop` makes, with the line that adds the app."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        self._run("-m", "django", "startproject", "shop", ".")
        self.add("shop/settings.py", 'INSTALLED_APPS += ["breaker"]')

    def add(self, path: str, text: str) -> None:
        with (self.folder / path).open("a") as file:
            file.write(f"\n{text}\n")

    def manage(self, *words: str, code: int = 0) -> str:
        return self._run("manage.py", *words, code=code)

    def script(self, text: str) -> str:
        return self._run("-c", text)

    def _run(self, *words: str, code: int = 0) -> str:
        return run(self.python, *words, code=code, cwd=self.folder, env={"DJANGO_SETTINGS_MODULE": "shop.settings"})


def run(*words: str | Path, code: int = 0, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    surroundings = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"} | dict(env or {})
    ended = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=surroundings, timeout=100, check=False)
    if ended.returncode != code:
        pytest.fail(f"exit code {ended.returncode}, not {code}\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout


def declared(extras: Iterable[str] = ()) -> set[str]:
    """What installing the wheel with these extras brings, by pyproject.toml and what each of those declares."""
    asked = METADATA["dependencies"] + [one for extra in extras for one in METADATA["optional-dependencies"][extra]]
    left, found = [Requirement(one) for one in asked], set()
    seen: set[tuple[str, str]] = set()
    while left:
        wanted = left.pop()
        for extra in ("", *wanted.extras):
            if (wanted.name, extra) in seen:
                continue
            seen.add((wanted.name, extra))
            found.add(wanted.name)
            further = map(Requirement, distribution(wanted.name).requires or ())
            left += [one for one in further if one.marker is None or one.marker.evaluate({"extra": extra})]
    return found


def lend(names: Iterable[str], packages: Path) -> None:
    """Let the project have these distributions as they are installed here, and no other."""
    for name in names:
        found = distribution(name)
        tops = {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (packages / top).exists():
                (packages / top).symlink_to(found.locate_file(top))


@pytest.fixture
def project(python: Path, tmp_path: Path) -> Project:
    return Project(tmp_path, python)


@pytest.fixture
def shop(project: Project) -> Project:
    """With a health page and a function that it guards."""
    project.add("shop/settings.py", 'INSTALLED_APPS += ["health_check"]')
    project.add("shop/settings.py", 'INSTALLED_APPS += ["shop"]')
    project.add("shop/apps.py", APP)
    project.add("shop/payments.py", PAYMENTS)
    (project.folder / "shop" / "urls.py").write_text(URLS)
    return project


def test_the_wheel_holds_the_two_packages_with_their_files_and_no_more(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"breaker", "mifos_gateway"}
    there = {
        str(path.relative_to(ROOT))
        for package in ("breaker", "mifos_gateway")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set(names) == there


def test_the_app_alone_is_enough(project: Project) -> None:
    assert "no issues" in project.manage("check")
    project.manage("migrate", "--verbosity", "0")
    assert "No changes" in project.manage("makemigrations", "--check", "--dry-run")
    assert "breaker.css" in project.manage("findstatic", "breaker/breaker.css", "--first")
    project.manage("breaker", "status", code=2)  # could not ask: nothing is shared yet


def test_its_functions_are_guarded_and_its_people_told(shop: Project) -> None:
    shop.manage("migrate", "--verbosity", "0")
    assert shop.script(DAY) == "a good day\n"


def test_its_processes_share_their_breakers_by_one_more_setting(shop: Project, redis_server: RedisServer) -> None:
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_server.url}
    caches = f"CACHES = global_settings.CACHES | {{'breaker': {cache}}}"
    shop.add("shop/settings.py", f"from django.conf import global_settings\n{caches}")
    shop.manage("migrate", "--verbosity", "0")
    shop.script(DAY)
    assert "OPEN" in shop.manage("breaker", "status", code=1)
    assert "OPEN -> CLOSED" in shop.manage("breaker", "reset", "payments", "--reason", "the bank is back")
    assert (shop.folder / "acts").read_text() == "payments: reset by command, for the bank is back"
    assert "CLOSED" in shop.manage("breaker", "status")


def test_the_gateways_app_needs_no_more_than_its_settings(project: Project) -> None:
    users = {
        f"{user}_{what}": "for-the-tests-only" for user in ("MAKER", "CHECKER") for what in ("USERNAME", "PASSWORD")
    }
    mifos = {"BASE_URL": "https://mifos.invalid/fineract-provider", "TENANT_ID": "default", **users}
    project.add("shop/settings.py", f"INSTALLED_APPS += ['mifos_gateway']\nMIFOS = {mifos}")
    project.manage("check")
    project.manage("migrate", "--verbosity", "0")
    asks = "from mifos_gateway import get_circuit_breaker_status; print(*get_circuit_breaker_status())"
    assert project.script(f"import django; django.setup(); {asks}") == "maker checker custom shared timestamp\n"


def test_a_project_without_the_admin_needs_none(project: Project) -> None:
    apps = ["django.contrib.auth", "django.contrib.contenttypes", "breaker"]
    project.add("shop/settings.py", f"INSTALLED_APPS = {apps}\nMIDDLEWARE = []\nROOT_URLCONF = 'breaker.urls'")
    project.manage("check")
    project.manage("migrate", "--verbosity", "0")
    asks = "from django.test import Client; print(Client(SERVER_NAME='localhost').get('/health').json()['healthy'])"
    assert project.script(f"import django; django.setup(); {asks}") == "True\n"


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    assert not (ROOT / "build").exists()

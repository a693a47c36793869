"""What `make setup` leaves behind: scripts outside of the checkout find it, and what `make up` chose."""

import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import devstate
from tests.acceptance.gateway import CHECKOUT, clean_environ
from tests.programs import free_port, needs_program

SCRIPT = """
import django
django.setup()
from django.conf import settings
import breaker, config, mifos_gateway
print(config.__path__[0], settings.MIFOS["BASE_URL"], settings.DATABASES["default"]["NAME"])
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment made anew, with the packages of this one, as `make setup` completes it."""
    folder = tmp_path / "an environment"
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/*/site-packages"))
    (packages / "this_run.pth").write_text(sysconfig.get_path("purelib") + "\n")
    stamp = folder / "checkout.stamp"
    (tmp_path / "venv").symlink_to(folder)  # make knows no spaces
    made = subprocess.run(
        [needs_program("make"), f"VENV={tmp_path / 'venv'}", f"{tmp_path / 'venv'}/checkout.stamp"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert stamp.exists(), made.stdout + made.stderr
    return folder


@pytest.fixture
def chosen() -> Iterator[str]:
    """A port for which a `make up` of this checkout has chosen something."""
    port = str(free_port())
    folder = devstate.folder(port)
    devstate.save(folder / "env", {"DJANGO_DEBUG": "true", "MIFOS_BASE_URL": "http://127.0.0.1:1/chosen"})
    yield port
    shutil.rmtree(folder)


def test_a_script_anywhere_finds_the_checkout_and_what_make_up_chose(environment, chosen, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "script.py").write_text(SCRIPT)
    environ = clean_environ(PORT=chosen, DJANGO_SETTINGS_MODULE="config.settings")
    environ.pop("PYTHONPATH", None)

    command = [str(environment / "bin/python"), "script.py"]
    ran = subprocess.run(command, env=environ, cwd=elsewhere, capture_output=True, text=True, timeout=60)

    database = devstate.folder(chosen) / "db.sqlite3"
    assert ran.stdout.split() == [str(CHECKOUT / "config"), "http://127.0.0.1:1/chosen", str(database)], ran.stderr
    assert os.listdir(elsewhere) == ["script.py"]

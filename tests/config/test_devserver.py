"""What `make up` refuses before it starts anything; tests/acceptance/test_make_up.py has the rest."""

import subprocess
import sys

from config.devserver import CREDENTIALS, without_credentials
from tests.acceptance.gateway import CHECKOUT, clean_environ
from tests.programs import free_port


def test_a_mifos_without_its_users_is_refused_at_once():
    environ = clean_environ(
        PORT=str(free_port()), MIFOS_BASE_URL="http://127.0.0.1:1/x", MIFOS_MAKER_USERNAME="technical-maker"
    )
    command = [sys.executable, "-m", "config.devserver"]
    refused = subprocess.run(command, env=environ, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)

    assert refused.returncode == 1
    assert [f"{name} is not: set it" in refused.stderr for name in CREDENTIALS] == [False, True, True, True]


def test_the_sandbox_needs_no_users():
    assert without_credentials(dict.fromkeys(CREDENTIALS) | {"MIFOS_BASE_URL": None}) == []

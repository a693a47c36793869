"""What a worker has done before its first call."""

import subprocess
import sys

from tests.acceptance.gateway import CHECKOUT, clean_environ


def test_a_worker_is_ready_before_its_first_call(tmp_path):
    script = """
import sys, config.wsgi
from mifos_gateway import guard
print("mifos_gateway.views" in sys.modules, guard._current is not None)
"""
    environ = clean_environ(
        DJANGO_DEBUG="true", MIFOS_BASE_URL="http://127.0.0.1:9", DATABASE_URL=f"sqlite:///{tmp_path / 'db'}"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environ, cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == ["True", "True"], ran.stderr

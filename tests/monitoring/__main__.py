"""What `make check` has promtool look at: rules, their unit tests, configurations, and what a gateway tells.

promtool comes with Prometheus (Debian: `apt-get install prometheus`), amtool with its Alertmanager. Where one is
missing that is said and nothing fails, unless CI=true promises them.
"""

import os
import shutil
import subprocess
import sys

from tests.monitoring.files import ALERTMANAGER, PROMETHEUS, RULES, UNIT_TESTS
from tests.prometheus import lint


def main() -> int:
    promtool, amtool = shutil.which("promtool"), shutil.which("amtool")
    failed = False
    if promtool:
        checks = (
            [promtool, "check", "rules", *map(str, RULES)],
            [promtool, "test", "rules", *map(str, UNIT_TESTS)],
            # Without looking for the token's file, which a deployment has.
            [promtool, "check", "config", "--syntax-only", str(PROMETHEUS)],
        )
        failed = sum(map(_fails, checks)) > 0  # each of them speaks
        for complaint in lint(promtool, exposition()):
            print(f"promtool check metrics: {complaint}", file=sys.stderr)
            failed = True
    if amtool:
        failed |= _fails([amtool, "check-config", str(ALERTMANAGER)])
    for name, found, package in (
        ("promtool", promtool, "prometheus"),
        ("amtool", amtool, "prometheus-alertmanager"),
    ):
        if not found:
            print(f"skipped: what {name} checks of config/monitoring/, for it is not here (Debian: {package})")
            failed |= os.environ.get("CI", "").lower() == "true"
    return int(failed)


def _fails(check: list[str]) -> bool:
    """Whether it fails; what it says then."""
    done = subprocess.run(check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    return done.returncode != 0


def exposition() -> str:
    """`/metrics` of this process: the twelve breakers, after a request."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from django.test import Client, override_settings

    from breaker.engine.sync import Sync
    from breaker.registry import registry
    from mifos_gateway import guard

    registry.forget()  # what the start has made
    registry._sync = Sync(None, threads=False)
    with override_settings(GATEWAY={"METRICS_PUBLIC": True}):
        guard.current()
        client = Client()
        client.get("/metrics")
        registry.sync.beat()
        answer = client.get("/metrics")
    assert answer.status_code == 200, answer.content
    return answer.content.decode()


if __name__ == "__main__":
    sys.exit(main())

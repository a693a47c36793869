"""A real Prometheus and a real Alertmanager, with the repository's configuration at another pace.

The pace: one of their seconds stands for half a minute of ours. All that counts time in config/monitoring/ is divided
by 30: scrape and evaluation intervals, `for`, the windows and offsets of rules, Alertmanager's waits. Thresholds stay:
they are rates, ratios and seconds of calls.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.monitoring.files import ALERTMANAGER, ALERTS, PROMETHEUS, RECORDING, Query, load
from tests.programs import free_port, needs_program, wait_for

PACE = 30
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_IN_PROMQL = re.compile(r"(\[|\boffset )(\d+[smhd])\b")


def paced(duration: str) -> str:
    return f"{int(duration[:-1]) * _UNITS[duration[-1]] * 1000 // PACE}ms"


def paced_promql(promql: str) -> str:
    return _IN_PROMQL.sub(lambda match: match[1] + paced(match[2]), promql)


def paced_rules(path: Path) -> dict[str, Any]:
    document = load(path)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = paced_promql(rule["expr"])
            if "for" in rule:
                rule["for"] = paced(rule["for"])
    return document


class _Server:
    """A program on a loopback port; `stop` ends it."""

    def __init__(self, folder: Path, words: Sequence[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"{Path(words[0]).name}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        try:
            wait_for(self._ready_or_ended, f"{words[0]} is ready")
            assert self.process.poll() is None, self.log.read_text()
        except BaseException:
            self.stop()
            raise

    def _ready_or_ended(self) -> bool:
        if self.process.poll() is not None:
            return True
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/-/ready", timeout=1).ok
        return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Alertmanager(_Server):
    """With alertmanager.yml, and a receiver that keeps what it is told."""

    def __init__(self, folder: Path) -> None:
        program = needs_program("prometheus-alertmanager")
        self.told = Receiver()
        document = load(ALERTMANAGER)
        for route in (document["route"], *document["route"]["routes"]):
            for name in ("group_wait", "group_interval", "repeat_interval"):
                if name in route:
                    route[name] = paced(route[name])
        for receiver in document["receivers"]:
            url = f"{self.told.url}/{receiver['name']}"
            receiver["webhook_configs"] = [{"url": url, "send_resolved": True}]
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(document))
        port = free_port()
        options = [f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address="]
        listen = f"--web.listen-address=127.0.0.1:{port}"
        try:
            super().__init__(folder, [program, "--config.file=alertmanager.yml", listen, *options], port)
        except BaseException:
            self.told.close()
            raise

    def stop(self) -> None:
        super().stop()
        self.told.close()


class Receiver:
    """Who is told by Alertmanager: `pages` are the notifications for the pager, oldest first."""

    def __init__(self) -> None:
        notifications = self.notifications = list[tuple[str, dict[str, Any]]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                notifications.append((self.path.strip("/"), json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def pages(self) -> list[dict[str, Any]]:
        return [told for whom, told in self.notifications if whom == "pager"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Prometheus(_Server):
    """With prometheus.yml and its rules; it scrapes `targets` (host:port) with `token`."""

    def __init__(self, folder: Path, targets: Sequence[str], *, token: str, alertmanager: str | None = None) -> None:
        program = needs_program("prometheus")
        for path in (RECORDING, ALERTS):
            (folder / path.name).write_text(yaml.safe_dump(paced_rules(path)))
        (folder / "mifos-gateway.token").write_text(token)
        document = load(PROMETHEUS)
        document["global"] = {name: paced(interval) for name, interval in document["global"].items()}
        (job,) = document["scrape_configs"]
        job["scrape_timeout"] = document["global"]["scrape_interval"]
        job["static_configs"] = [{"targets": list(targets)}]
        hosts = [{"targets": [alertmanager]}] if alertmanager else []
        document["alerting"]["alertmanagers"] = [{"static_configs": hosts}] if hosts else []
        (folder / "prometheus.yml").write_text(yaml.safe_dump(document))
        port = free_port()
        options = [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"]
        super().__init__(folder, [program, "--config.file=prometheus.yml", "--log.level=warn", *options], port)

    def _ask(self, path: str, **parameters: Any) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def query(self, promql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("query", query=promql)["result"]
        return found

    def query_range(self, promql: str, seconds: float = 60) -> list[dict[str, Any]]:
        now = time.time()
        found: list[dict[str, Any]] = self._ask("query_range", query=promql, start=now - seconds, end=now, step=1)[
            "result"
        ]
        return found

    def firing(self, **labels: str) -> set[tuple[str, str]]:
        """(alert, client) of each that fires."""
        return {
            (one["labels"]["alertname"], one["labels"].get("client", ""))
            for one in self._ask("alerts")["alerts"]
            if one["state"] == "firing" and labels.items() <= one["labels"].items()
        }

    def unanswered(self, queries: Sequence[Query]) -> list[Query]:
        """Those that have no data, neither now nor in the last minute."""
        return [one for one in queries if not self.query_range(one.promql) and not self.query(one.promql)]

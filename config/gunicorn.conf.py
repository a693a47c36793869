"""How gunicorn serves: `gunicorn -c config/gunicorn.conf.py config.wsgi`."""

import math
import os
import subprocess
import sys
from typing import Any

from gunicorn import glogging
from gunicorn.http import wsgi
from gunicorn.workers import gthread

from config import devstate, env, logs, production, tether

devstate.serving = True
try:
    ENV = env.read(judged=False)
except env.BadEnvironment as error:
    production.refuse_bad_environment(error)

# A thread waiting for the GIL gets it after 0.5 ms, not 5: with 8 busy threads the breakers' news arrived at
# p50/p99 7/21 ms instead of 75/368, at no loss of throughput.
SWITCH_INTERVAL = 0.0005

# For so long a new connection that says nothing holds a thread before the poller takes it. gunicorn's 5 s let 200
# silent connections (of a load balancer that opens them ahead, say) hold up every probe for 30 s. Not much shorter:
# a worker that stops just then drops such a connection, and with 10 ms a busy machine lost calls so.
gthread.DEFAULT_WORKER_DATA_TIMEOUT = 0.25


class logger_class(glogging.Logger):
    """Without gunicorn's access log, whose lines it would make up for each call though nobody hears them."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        pass


class _Response(wsgi.Response):
    """gunicorn takes an application's `Date` for its own to write; that of a kept answer says when it was made."""

    _date = ""

    def process_headers(self, headers: Any) -> None:
        self._date = next((value for name, value in headers if name.lower() == "date"), "")
        super().process_headers(headers)

    def default_headers(self) -> list[str]:
        made: list[str] = super().default_headers()
        if self._date:
            made = [line for line in made if not line.startswith("Date:")] + [f"Date: {self._date}\r\n"]
        return made


wsgi.Response = _Response
proc_name = "mifos-gateway"
bind = f"[{ENV['HOST']}]:{ENV['PORT']}" if ":" in ENV["HOST"] else f"{ENV['HOST']}:{ENV['PORT']}"
worker_class = "gthread"
workers = ENV["WEB_CONCURRENCY"]
threads = ENV["WEB_THREADS"]
preload_app = ENV["GUNICORN_PRELOAD"]
timeout = ENV["GUNICORN_TIMEOUT"]  # a worker's sign of life, which long calls in its threads don't hold up
keepalive = ENV["GUNICORN_KEEPALIVE"]
backlog = ENV["GUNICORN_BACKLOG"]
max_requests = ENV["GUNICORN_MAX_REQUESTS"]
max_requests_jitter = (
    max_requests // 10 if ENV["GUNICORN_MAX_REQUESTS_JITTER"] is None else ENV["GUNICORN_MAX_REQUESTS_JITTER"]
)
limit_request_line = 8190
# Only DJANGO_SECURE_PROXY_SSL_HEADER says whom to believe that a call came by https: gunicorn by itself believes
# whoever calls from 127.0.0.1, and on a Unix socket everybody.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a disk may stall heartbeats
control_socket_disable = True
accesslog = None  # `gateway.access` is ours: gunicorn's would hold queries
loglevel = logs.level_of_others(ENV["LOG_LEVEL"])
logconfig_dict = logs.dict_config(ENV["LOG_FORMAT"], ENV["LOG_LEVEL"])


def _longest_breaker_timeout() -> float:
    options = (ENV["BREAKER_OPTIONS"] or {}).values()
    own = [each["timeout"] for each in options if isinstance(each.get("timeout"), int | float)]
    return float(max([ENV["BREAKER_TIMEOUT"], *own]))


# A running call is let finish.
graceful_timeout = ENV["GUNICORN_GRACEFUL_TIMEOUT"] or math.ceil(_longest_breaker_timeout() + 5)


def on_starting(server: Any) -> None:
    if not devstate.start_checked:
        found = subprocess.run([sys.executable, "-m", "config.production"], cwd=devstate.CHECKOUT, check=False)
        if found.returncode:
            sys.exit(found.returncode)
        devstate.start_checked = True  # the workers inherit it


def pre_request(worker: Any, req: Any) -> None:
    """A body beyond the limit is refused unread, so it is not asked for (100 Continue) and the connection ends."""
    length = dict(req.headers).get("CONTENT-LENGTH", "")
    if length.isdigit() and int(length) > ENV["GATEWAY_MAX_REQUEST_BYTES"]:
        req._expected_100_continue = False
        req.force_close()


def post_fork(server: Any, worker: Any) -> None:
    if os.environ.get(tether.WITH_PARENT):
        tether.die_with(server.pid)


def post_worker_init(worker: Any) -> None:
    sys.setswitchinterval(SWITCH_INTERVAL)
    if registry := sys.modules.get("breaker.registry"):
        registry.start()  # so that the first call need not wait for the shared state


def worker_exit(server: Any, worker: Any) -> None:
    # Only where the application came to life: this hook also runs for a worker that never booted.
    if registry := sys.modules.get("breaker.registry"):
        registry.close()
    if kept := sys.modules.get("mifos_gateway.kept"):
        kept.answers.finish()
    logs.writer.flush()

"""A running sandbox MIFOS, in this process, and its control endpoints.

| endpoint                   | what it does                                                                   |
|----------------------------|--------------------------------------------------------------------------------|
| GET /__sandbox             | says that this is one                                                          |
| GET POST DELETE /__faults  | the faults in force (see faults.py); DELETE clears them                        |
| GET POST /__settings       | maker-checker and timing (see settings.py)                                     |
| GET DELETE /__requests     | what came: count, inFlight, peakInFlight, connections, the `?last=` 1000 rows  |
| GET /__ledger              | every effect that was done, in order                                           |
| POST /__reset              | everything as at the start                                                     |
| any /__echo/…              | what arrived; under /fineract-provider/api/v1/__echo/… behind authentication   |
"""

import errno
import json
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

from .api import Api
from .connection import Server
from .desk import Desk
from .faults import Faults
from .messages import CONTEXT_PATH, Answer, Request, json_answer
from .process import exit_on_signal, follow_parent, hold_signals
from .reads import echo
from .records import KEPT_REQUESTS, Ledger, RequestLog
from .settings import Settings
from .values import BadValue

DEFAULT_LAST = 1000


class CannotListen(Exception):
    """The address cannot be had; the text is for the person who chose it."""


def serve(host: str, port: int, *, die_with_parent: int | None = None) -> NoReturn:
    """Serves until SIGTERM or SIGINT; CannotListen when the address cannot be had."""
    hold_signals()
    if die_with_parent is not None:
        follow_parent(die_with_parent)
    print(f"sandbox MIFOS on {Sandbox(host, port).base_url}", flush=True)
    exit_on_signal()


class Sandbox:
    """A running sandbox MIFOS. In a test: `with Sandbox(port=0) as mifos: … mifos.base_url …`."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.faults = Faults()
        self.settings = Settings()
        self._reset()
        self._server = _listen(host, port, self)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._server.server_address[1]}"
        self.base_url = f"{self.url}{CONTEXT_PATH}/api/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox-mifos", daemon=True
        )
        self._thread.start()

    def set_faults(self, *several: dict[str, Any], **one: Any) -> None:
        """`set_faults(mode="hang", users=["maker"])`, or several faults as dicts."""
        self.faults.set(list(several) if several else one)

    def set(self, **settings: Any) -> None:
        self.settings.change(settings)

    def requests(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.log.report(KEPT_REQUESTS)["requests"]
        return rows

    def ledger(self) -> list[dict[str, Any]]:
        return self._ledger.rows()

    def close(self) -> None:
        """Ends at once, whatever hangs."""
        self.faults.close()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def control(self, request: Request) -> Answer:
        """The `/__` endpoints: no authentication, no faults, not in the log."""
        try:
            return self._controlled(request)
        except BadValue as error:
            return json_answer({"error": str(error), "field": error.field}, 400)

    def _controlled(self, request: Request) -> Answer:
        name, method = request.path.split("/")[1], request.method.replace("HEAD", "GET")
        if name == "__echo":
            return echo(request)
        if name not in CONTROLS:
            return json_answer(
                {"error": f"There is no {request.path}; there are {', '.join(f'/{known}' for known in CONTROLS)}"}, 404
            )
        if method not in CONTROLS[name]:
            return json_answer({"error": f"/{name} takes {', '.join(CONTROLS[name])}, not {method}"}, 405)
        return json_answer(CONTROLS[name][method](self, request))

    def _reset(self) -> None:
        self.log = RequestLog()
        self._ledger = Ledger()
        self.api = Api(Desk(self.settings, self._ledger, pause=self._pause))

    def _pause(self, seconds: float) -> None:
        self.faults.wait(seconds, None)

    def control_show(self, request: Request) -> dict[str, Any]:
        return {"sandbox": True}

    def control_reset(self, request: Request) -> dict[str, Any]:
        self.faults.set({"mode": "ok"})
        self.settings.change(Settings().as_dict())
        self._reset()
        return {"sandbox": True}

    def control_faults(self, request: Request) -> dict[str, Any]:
        if request.method == "POST":
            self.faults.set(_json(request))
        if request.method == "DELETE":
            self.faults.set({"mode": "ok"})
        return self.faults.report()

    def control_settings(self, request: Request) -> dict[str, Any]:
        if request.method == "POST":
            self.settings.change(_json(request))
        return self.settings.as_dict()

    def control_requests(self, request: Request) -> dict[str, Any]:
        if request.method == "DELETE":
            self.log.clear()
        last = request.param("last", str(DEFAULT_LAST))
        if not last.isdecimal():
            raise BadValue("last", f"must be a whole number, not {last!r}")
        return self.log.report(int(last)) | {"connections": self._server.connections}

    def control_ledger(self, request: Request) -> dict[str, Any]:
        rows = self._ledger.rows()
        return {"count": len(rows), "effects": rows}


Control = Callable[[Sandbox, Request], dict[str, Any]]
CONTROLS: dict[str, dict[str, Control]] = {
    "__sandbox": {"GET": Sandbox.control_show},
    "__faults": dict.fromkeys(("GET", "POST", "DELETE"), Sandbox.control_faults),
    "__settings": dict.fromkeys(("GET", "POST"), Sandbox.control_settings),
    "__requests": dict.fromkeys(("GET", "DELETE"), Sandbox.control_requests),
    "__ledger": {"GET": Sandbox.control_ledger},
    "__reset": {"POST": Sandbox.control_reset},
    "__echo": {},
}


def _json(request: Request) -> Any:
    try:
        return json.loads(request.body)
    except ValueError:
        raise BadValue("body", "must be JSON") from None


def _listen(host: str, port: int, sandbox: Sandbox) -> Server:
    try:
        return Server(host, port, sandbox)
    except (OSError, OverflowError) as error:
        in_use = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = "the port is in use" if in_use else getattr(error, "strerror", None) or str(error)
        raise CannotListen(
            f"cannot listen on {host}:{port}: {reason}; choose another one with --port (0 picks a free one)"
        ) from None

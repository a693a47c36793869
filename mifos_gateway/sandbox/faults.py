"""Faults on demand: which request meets one, and what it is.

| mode       | what the caller meets                                                                              |
|------------|----------------------------------------------------------------------------------------------------|
| error      | `status` (500) with `body` (default: what MIFOS or its proxy says then) and `headers`              |
| hang       | no byte for `seconds` (3600), then the connection is closed                                        |
| slow       | the right answer after `seconds` (5); what it does, it does then, even if the caller has gone      |
| drip       | one byte, then a pause of `seconds` (0.05), and so on; `where`: "body" (default) or "headers" on   |
| reset      | the connection is reset (RST); `where`: "headers" or "body" first sends half of it                 |
| rate_limit | a proxy's 429 with `Retry-After: seconds` (1)                                                      |
| ok         | nothing; alone, it clears all faults                                                               |

What MIFOS has done by then is `after`:

* "nothing" (default; slow and drip still do all they should): the request never got there.
* "effect": all is done and stored, only the answer is lost.
* "crash": the effect is done, but its row never says so: the key answers 425 from then on.
* "burn": no effect; the fault's answer (500 unless `status` says otherwise) is stored under the key.

A POST replaces what was there. A list of faults is tried in order: the first one whose `paths`, `methods`, `users` and
`times` fit decides, by its `rate`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from random import Random
from threading import Condition
from time import monotonic
from typing import Any

from .errors import usual_answer
from .messages import Answer, Request, html_answer, json_answer
from .values import BadValue, choice, known, number, seconds, strings, whole

DEFAULT_SECONDS = {"error": 0.0, "hang": 3600.0, "slow": 5.0, "drip": 0.05, "reset": 0.0, "rate_limit": 1.0, "ok": 0.0}
AFTER = ("nothing", "effect", "crash", "burn")
WHERE = ("headers", "body")
PEEK_SECONDS = (
    0.25  # a waiting handler looks that often whether its caller has gone, so that a long hang gathers no sockets
)


@dataclass(frozen=True)
class Fault:
    """One checked fault; see the module's table."""

    mode: str
    rate: float = 1.0
    seconds: float = 0.0
    paths: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    times: int | None = None
    after: str = "nothing"
    where: str | None = None
    status: int = 500
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def parse(cls, content: Any) -> "Fault":
        given = known(content, tuple(cls.__dataclass_fields__))
        mode = choice("mode", given.get("mode"), tuple(DEFAULT_SECONDS))
        checked = {name: CHECKS[name](name, value) for name, value in given.items() if value is not None}
        return replace(cls(mode, seconds=DEFAULT_SECONDS[mode]), **checked)

    def fits(self, request: Request) -> bool:
        if self.methods and request.method not in self.methods:
            return False
        if self.users and request.username not in self.users:
            return False
        return any(_path_fits(pattern, request) for pattern in self.paths)

    def answer(self) -> Answer:
        """What modes error and rate_limit say."""
        if self.mode == "rate_limit":
            answer = html_answer(429, "Too Many Requests").having(("Retry-After", str(max(1, round(self.seconds)))))
        elif self.body is None:
            answer = usual_answer(self.status)
        elif isinstance(self.body, str):
            answer = Answer(self.status, self.body.encode(), "text/plain;charset=utf-8")
        else:
            answer = json_answer(self.body, self.status)
        return answer.having(*self.headers.items())


def _path_fits(pattern: str, request: Request) -> bool:
    """`clients*`, `loans/5?command=disburse` or `GET clients/*`; `*` also over `/`."""
    method, space, path = pattern.partition(" ")
    if not space:
        method, path = "*", pattern
    if method not in ("*", request.method):
        return False
    route, path = request.route.lower(), path.lower()
    return fnmatchcase(route, path) or fnmatchcase(f"{route}?{request.raw_query.lower()}", path)


def _headers(name: str, value: Any) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else [(None, None)]
    if not all(isinstance(part, str) and part.isascii() and part.isprintable() for pair in pairs for part in pair):
        raise BadValue(name, f"must be an object of strings, not {value!r}")
    return dict(pairs)


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "mode": lambda name, value: choice(name, value, tuple(DEFAULT_SECONDS)),
    "rate": lambda name, value: number(name, value, low=0, high=1),
    "seconds": seconds,
    "paths": strings,
    "methods": lambda name, value: tuple(method.upper() for method in strings(name, value)),
    "users": strings,
    "times": lambda name, value: whole(name, value, low=0, high=1_000_000_000),
    "after": lambda name, value: choice(name, value, AFTER),
    "where": lambda name, value: choice(name, value, WHERE),
    "status": lambda name, value: whole(name, value, low=400, high=599),
    "body": lambda name, value: value,
    "headers": _headers,
    "seed": lambda name, value: whole(name, value, low=0, high=2**63),
}


class Faults:
    """The faults in force. Whoever waits in one is woken when they change and when the sandbox closes."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._generation = 0
        self._closed = False
        self._install(())

    def set(self, content: Any) -> None:
        """One fault or a list of them; BadValue leaves everything as it was."""
        faults = tuple(Fault.parse(one) for one in (content if isinstance(content, list) else [content]))
        with self._changed:
            self._install(() if all(fault.mode == "ok" for fault in faults) else faults)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def pick(self, request: Request) -> "Trouble | None":
        """The fault that this request meets, if any."""
        with self._changed:
            for index, fault in enumerate(self._faults):
                if not fault.fits(request) or (fault.times is not None and self._hits[index] >= fault.times):
                    continue
                # Random numbers start anew with each POST, so the n-th matching request meets the same in every run.
                if self._randoms[index].random() >= fault.rate:
                    return None
                self._hits[index] += 1
                return None if fault.mode == "ok" else Trouble(self, fault, self._generation)
            return None

    def report(self) -> dict[str, Any]:
        with self._changed:
            return {
                "faults": [asdict(fault) | {"hits": hits} for fault, hits in zip(self._faults, self._hits, strict=True)]
            }

    def wait(self, duration: float, generation: int | None, gone: Callable[[], bool] | None = None) -> bool:
        """Waits; False at once when the faults change, all is closed or the caller is gone.

        Generation None waits whatever the faults are.
        """
        until = monotonic() + duration
        with self._changed:
            while not self._closed and generation in (None, self._generation):
                left = until - monotonic()
                if left <= 0:
                    return True
                self._changed.wait(min(left, PEEK_SECONDS) if gone else left)
                if gone is not None and gone():
                    return False
            return False

    def _install(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        self._hits = [0] * len(faults)
        self._randoms = [Random(fault.seed) for fault in faults]  # noqa: S311 - repeatable on purpose, and no secret
        self._generation += 1


@dataclass(frozen=True)
class Trouble:
    """A fault that a request has met, and whether it is still in force."""

    faults: Faults
    fault: Fault
    generation: int

    def wait(self, gone: Callable[[], bool] | None = None) -> bool:
        return self.faults.wait(self.fault.seconds, self.generation, gone)

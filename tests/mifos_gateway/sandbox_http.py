"""A caller of the sandbox that hides nothing: one request, the answer as it came."""

import http.client
import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mifos_gateway.sandbox.server import Sandbox

PASSWORDS = {"maker": "sandbox-maker", "checker": "sandbox-checker"}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The innermost of Fineract's codes."""
        content = self.json
        return (content.get("errors") or [content])[0]["userMessageGlobalisationCode"]


class Caller:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def __call__(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        user: str | None = "maker",
        tenant: str | None = "default",
        headers: dict[str, str] | None = None,
        timeout: float = 10,
    ) -> Reply:
        """`path` starts with / or is relative to /api/v1/."""
        target = path if path.startswith("/") else f"/fineract-provider/api/v1/{path}"
        sent = dict(headers or {})
        if user:
            sent["Authorization"] = "Basic " + b64encode(f"{user}:{PASSWORDS.get(user, 'wrong')}".encode()).decode()
        if tenant:
            sent["Fineract-Platform-TenantId"] = tenant
        body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
        connection = http.client.HTTPConnection(urlsplit(self.sandbox.url).netloc, timeout=timeout)
        try:
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def keyed(self, path: str, content: Any, key: str, **options: Any) -> Reply:
        return self("POST", path, content, headers={"Idempotency-Key": key}, **options)

"""A MIFOS that costs next to nothing: whatever is asked, one answer as Fineract gives it. `upstream.py PORT`."""

from __future__ import annotations

import asyncio
import sys

BODY = (
    b'{"totalFilteredRecords":1,"pageItems":[{"id":1,"accountNo":"000000001","status":{"id":300,"code":'
    b'"clientStatusType.active","value":"Active"},"active":true,"activationDate":[2026,1,15],"firstname":"Ada",'
    b'"lastname":"Banda","displayName":"Ada Banda","officeId":1,"officeName":"Head Office"}]}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nDate: Mon, 02 Nov 2026 08:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Cache-Control: no-cache, no-store\r\nVary: Origin\r\nX-Content-Type-Options: nosniff\r\n"
    b"Content-Length: %d\r\n\r\n"
) % len(BODY)


class Peer(asyncio.Protocol):
    """Requests one after the other: those that only read each in one piece."""

    held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"GET "):
            self.held += data
            head, ends, body = self.held.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            if not ends or len(body) < length:
                return
            self.held = b""
        self.transport.write(ANSWER + BODY)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))

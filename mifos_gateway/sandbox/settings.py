"""How the sandbox behaves when nothing is broken; `POST /__settings` changes it."""

from dataclasses import asdict, dataclass
from typing import Any

from .values import boolean, known, seconds


@dataclass
class Settings:
    maker_checker: bool = False
    """Every command waits for a checker."""
    processing_seconds: float = 0.0
    """How long a command's row is UNDER_PROCESSING before its effect."""
    conflict_seconds: float = 0.1
    """How long a repeat waits for the first to finish before 425 (Fineract: 3 s)."""
    keep_alive: bool = True
    """False closes each connection after its answer."""
    idle_seconds: float = 0.0
    """A kept-alive connection is closed after so long without a request; 0 is never."""

    def change(self, content: Any) -> None:
        checked = {
            name: (boolean if isinstance(getattr(self, name), bool) else seconds)(name, value)
            for name, value in known(content, tuple(asdict(self))).items()
        }
        for name, value in checked.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

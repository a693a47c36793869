"""What `make up` keeps in var/<port>/, and what it chose, for whoever asks by the same PORT."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from config.values import FALSE

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_PORT = "8000"

# A server takes its settings from its own environment alone: gunicorn.conf.py and wsgi.py set this, so that
# a production start on a machine where someone once tried `make up` finds nothing of that.
serving = False
start_checked = False  # by gunicorn's master, for the workers that it forks


def folder(port: str | int | None = None) -> Path:
    return CHECKOUT / "var" / str(port or os.environ.get("PORT") or DEFAULT_PORT)


def chosen() -> dict[str, str]:
    """What the `make up` of this PORT chose; nothing in a server, in production, or under another secret key."""
    if serving or os.environ.get("DJANGO_DEBUG", "").strip().lower() in FALSE:
        return {}
    saved = load(folder() / "env")
    own_key = os.environ.get("DJANGO_SECRET_KEY")
    if os.environ.get("DJANGO_SECRET_KEY_FILE") or (own_key and own_key != saved.get("DJANGO_SECRET_KEY")):
        return {}
    return saved


def load(path: Path) -> dict[str, str]:
    """A small JSON file of text by name; empty when it is not there or not ours to read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def save(path: Path, content: Mapping[str, str]) -> None:
    """Replaces the file in one step, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(dict(content), file, indent=2)
    draft.replace(path)

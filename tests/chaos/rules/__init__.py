"""What a recording must not hold: one function a rule, each pure, each sure of what it says (doubt is nobody's fault).

The guarantees are those of docs/design/guarantees.md. An allowance stands beside the rule that makes it, with its
reason; what a machine takes from all threads alike is measured in the same run (`Recording.stall`).
"""

from collections.abc import Iterator
from typing import Any

Found = Iterator[tuple[str, float, tuple[Any, ...]]]
"""What is wrong, when, and the records that show it."""

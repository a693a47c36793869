"""What OpenTelemetry adds to a guarded call: nothing while it is off; a span while it is on.

The rows call a function that `create_circuit_breaker` has guarded. The traced one's spans are batched and encoded as
they would be sent, by the SDK's thread, and then dropped: a receiver would take the same cores.
"""

from __future__ import annotations

from tests.benchmarks import turns
from tests.benchmarks.contestants import GUARDED, TRACED, UNGUARDED, UNSAMPLED
from tests.benchmarks.course import Course, Session
from tests.benchmarks.turns import Drill

COURSES: tuple[Course, ...] = (
    Drill(
        name="traced-closed",
        title="A call of a guarded function, closed, with OpenTelemetry off and on",
        rows=(GUARDED, UNSAMPLED, TRACED, UNGUARDED),
    ),
)
SESSION = Session(courses=COURSES, measure=turns.measure, priced=False)

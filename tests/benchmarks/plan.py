"""All that is measured, in the order of the table. Another session is another line here."""

from __future__ import annotations

from tests.benchmarks import crowds, deadline, deferred, gateway, prices, propagation, tracing, traffic, watching
from tests.benchmarks.course import Course, Session

SESSIONS: tuple[Session, ...] = (
    prices.SESSION,
    crowds.SESSION,
    propagation.SESSION,
    traffic.SESSION,
    deadline.SESSION,
    gateway.SESSION,
    watching.SESSION,
    deferred.SESSION,
    tracing.SESSION,
)
COURSES: tuple[Course, ...] = tuple(course for session in SESSIONS for course in session.courses)
PRICED: tuple[Course, ...] = tuple(course for session in SESSIONS if session.priced for course in session.courses)

"""When a worker may be without Redis: when something was done to it, and not long after."""

from breaker.engine.sync import GOOD_BEATS, PATIENCE, RETRY
from tests.chaos.recording import Recording
from tests.chaos.rules import Found
from tests.chaos.views import SILENT_LOSS, bound

FOUND_AGAIN = (GOOD_BEATS + 1) * (RETRY + 2 * PATIENCE)
"""Seconds in which a worker finds Redis again: it looks each RETRY until GOOD_BEATS looks in a row were good, and each
takes twice PATIENCE at most."""
BIRTH = 2.0
"""Seconds in which a new worker may be too busy with its own birth to hear Redis in time."""


def redis_is_followed_again(recording: Recording) -> Found:
    last = max((call.answered for call in recording.calls), default=0.0)
    for each in recording.alone:
        back = max([each.since, *(deed.ended for deed in recording.redis_deeds if deed.began <= each.until)])
        until = min(each.until, recording.died.get(each.pid, float("inf")), last)
        if until > back + FOUND_AGAIN + 2 * bound(recording, back):
            yield f"worker {each.pid} was alone {until - back:.2f} s after Redis was back", back, (each,)


def a_healthy_redis_is_not_lost(recording: Recording) -> Found:
    for each in recording.alone:
        born = next((one.at for one in recording.born if one.pid == each.pid), 0.0)
        provoked = recording.touched(each.since - SILENT_LOSS, each.since) or each.since < born + BIRTH
        if not provoked and recording.stall(each.since - SILENT_LOSS, each.since) < PATIENCE / 2:
            yield f"worker {each.pid} lost a Redis to which nothing was done", each.since, (each,)

"""Who takes part."""

from tests.conformance import ours, peer_interlock, peer_pybreaker
from tests.conformance.runner import Contestant

OURS = ("ours, memory", "ours, Redis")


def contestants(url: str) -> list[Contestant]:
    """All, over one Redis that they empty again and again."""
    return [
        ours.contestant("ours, memory", ours.over_memory),
        ours.contestant("ours, Redis", ours.over_redis(url)),
        peer_pybreaker.contestant("pybreaker, memory", peer_pybreaker.over_memory, shared=False),
        peer_pybreaker.contestant("pybreaker, Redis", peer_pybreaker.over_redis(url), shared=True),
        peer_interlock.contestant("interlock-cb, memory", peer_interlock.over_memory, shared=False),
        peer_interlock.contestant("interlock-cb, Redis", peer_interlock.over_redis(url), shared=True),
    ]

"""The long profile of the engine's model: python -m tests.engine.model [--steps N] [--seconds N] [--seed N]"""

import sys

from tests import proving
from tests.engine.model.schedules import Schedule, profile

if __name__ == "__main__":
    sys.exit(proving.main(Schedule, profile, description="the engine, beside a reference", steps=400_000, seconds=900))

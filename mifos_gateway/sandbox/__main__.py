"""`python -m mifos_gateway.sandbox --port N`: the sandbox without Django."""

import argparse
import sys

from .process import add_arguments
from .server import CannotListen, serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m mifos_gateway.sandbox", description="A stand-in MIFOS with faults on demand."
    )
    add_arguments(parser)
    options = parser.parse_args()
    try:
        serve(options.host, options.port, die_with_parent=options.die_with_parent)
    except CannotListen as error:
        sys.exit(str(error))

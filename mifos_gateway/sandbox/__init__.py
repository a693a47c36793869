"""A stand-in MIFOS with faults on demand, for a first run and for tests.

Standard library only; imported by nothing else.
"""

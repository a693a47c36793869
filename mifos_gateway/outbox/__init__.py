"""The outbox: writes that were accepted while MIFOS could not take them, and their way to it.

rules     which writes may be deferred
intake    what is known of a write at the door: its key, its order, what is ahead of it; and its acceptance
outcomes  what an answer of MIFOS means for a deferred request: the one table
delivery  lease, send, settle
pace      how fast a backlog is sent
runner    the loop of `manage.py deliver_deferred`
turnstile how few at a time ask the database at the door
desk      what callers and operators do with deferred requests, and how they are told of
acts      the same by an operator: who, and why
payload   what a deferred request holds, to look at
metrics   what Prometheus is told
"""

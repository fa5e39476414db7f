"""The gRPC side towards participants: a call goes out, and what comes back becomes an input of the core.

Must not know sagas, the journal or expressions.
"""

"""Other systems doing the same work: adapters that start one, run a saga on it, and end it.

Each runs in an environment of its own, made by `python -m benchmarks.peers DIRECTORY`, and calls the very participants
that our coordinator calls, through the unary RPCs of `saga.v1.ParticipantService`. Nothing of ours may need theirs.
"""

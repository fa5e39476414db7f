"""Rehearses a definition against its real participants: every failure path, with failures made in the coordinator.

The real engine runs in this process, on a journal in memory; between it and the participants stands a caller that loses
requests and replies, repeats and delays calls, refuses, cancels and crashes where a path says so. This package must not
know the command line, and must not fake a participant: whatever is called takes effect.
"""

"""Sample services: real participants with their own databases, to run, to read and to copy.

They know the contract (`saga.v1`) and the SDK, and nothing of the coordinator's code.
"""

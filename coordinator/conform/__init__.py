"""`saga conform`: finds out whether a running participant, in whatever language, keeps the contract.

A black box is asked, over the network alone, by what stands in for a coordinator: it sends what a coordinator may send,
loses what a network may lose, kills what an operator may kill, and reads replies as the coordinator reads them. What
the participant offers comes from its own Describe; inputs that it accepts come from a file of its author's.

A check demands what the contract demands and nothing more. This package must not import the SDK: what is wrong there is
to be found here, not shared.
"""

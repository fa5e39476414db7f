"""Everything that can happen to a saga of a definition, tried out on the real core.

A small explicit-state model checker in the spirit of TLC (Lamport, "Specifying Systems", 2002, ch. 14) and
stateright: it walks all reachable states breadth first, knows a state again by its canonical form, and checks the
guarantees in each one. What is explored is no model of the core but the core: `turn`, `record` and `outstanding`
decide what follows; only the participants, the clock and the failures are made up here.

This package must not do I/O, read a clock or draw a number, and must not repeat a rule of the core.
"""

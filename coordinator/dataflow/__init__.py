"""How data flows through a saga: message types, expressions, and the definitions written in them.

Nothing here does I/O, reads a clock or knows a saga's state: descriptors, definitions and payloads come as arguments.
"""

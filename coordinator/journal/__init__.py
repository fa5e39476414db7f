"""The durable record: what happened to every saga, and every version of every definition.

`port` says what a journal does; `sqlite` keeps it in a file, `memory` for tests. A journal never folds events into a
state: it knows a saga's id, its sequence and the row that lists show, and nothing of what an event means.
"""

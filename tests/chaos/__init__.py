"""The chaos run: money is transferred between two banks while everything around it fails.

Coordinator and banks are real processes, killed, stopped and started again; every connection goes through a relay that
cuts, tears, delays, throttles and swallows; every call of a bank may be lost, delayed or delivered twice, also long
after. `python -m tests.chaos --minutes 10 --seed 1` runs it.

`plan` draws from the seed what goes wrong and when, `transfers` what is transferred and how clients behave; `nemesis`
carries the one out, `clients` the other, on the `system` with its `tcp_relay`s and `participant_relay`s. `ledger` knows
what must be true of the banks' books at every instant and `audit` reads them; `verdict` judges what is left in the end.
`run` puts a round together, `report` counts.
"""

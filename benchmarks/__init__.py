"""What the coordinator's promises cost, measured; README.md says by which programs. Their figures are quoted in docs/.

Nothing imports this package but its own tests, which run it small so that it cannot rot. It must not assert times: they
are another machine's on every machine.
"""

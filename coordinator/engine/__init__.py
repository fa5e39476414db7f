"""The shell round the core: append, then dispatch; timers; recovery; admission."""

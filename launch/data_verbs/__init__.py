"""The verbs of `launch/data.py`, one a module; each offers `run(argv)`."""

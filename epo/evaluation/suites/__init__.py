"""The evaluation suites, one a module; each offers `SUITE`."""

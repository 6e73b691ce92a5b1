"""The terms of the EPO objective, one a module; each offers `TERM`."""

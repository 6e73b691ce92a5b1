"""The families of models, one a module; each offers `FAMILY`."""

"""The parts of a prompt, one a module; each offers `PART`."""

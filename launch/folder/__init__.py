"""A stage's folder: who writes to it, what its result was made from, what was done."""

"""Ages: how many turns before the one to answer something was said, in the groups that tables have columns for."""

_BOUNDS = ((2, "1-2"), (4, "3-4"), (8, "5-8"), (16, "9-16"), (32, "17-32"))

AGES = (*(label for _, label in _BOUNDS), "33 and more")
"""Labels of the groups; 1 is the turn before the one to answer."""


def age_label(age: int) -> str:
    """Return the group of an age, counted from 1."""
    return next((label for bound, label in _BOUNDS if age <= bound), AGES[-1])


__all__ = ["AGES", "age_label"]

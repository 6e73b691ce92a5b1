"""Word and character error rate: how far what was recognised is from what was said."""

from collections.abc import Sequence

from compressor.words import plain_form, split_words


def edit_distance(said: Sequence[str], wanted: Sequence[str]) -> int:
    """Return the fewest substitutions, deletions and insertions that turn one sequence into another (Levenshtein)."""
    row = list(range(len(said) + 1))
    for i, unit in enumerate(wanted, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(said, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (unit != other))
    return row[-1]


def word_error_rate(said: Sequence[str], wanted: Sequence[str]) -> float | None:
    """Return the edits of all texts over the words wanted, by `split_words`; None where no word is wanted."""
    return _error_rate([split_words(text) for text in said], [split_words(text) for text in wanted])


def character_error_rate(said: Sequence[str], wanted: Sequence[str]) -> float | None:
    """Return the edits of all texts over the characters wanted, in plain form with single blanks between words."""
    said, wanted = ([" ".join(plain_form(text).split()) for text in texts] for texts in (said, wanted))
    return _error_rate(said, wanted)


def _error_rate(said: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> float | None:
    total = sum(map(len, wanted))
    return sum(edit_distance(a, b) for a, b in zip(said, wanted, strict=True)) / total if total else None


__all__ = ["character_error_rate", "edit_distance", "word_error_rate"]

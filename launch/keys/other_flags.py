"""Other names of flags, for those who type a command without a recipe: `--out` is `--output_dir`, and so on."""

from collections.abc import Collection, Sequence
from typing import get_args

from epo.data.replies import ReplyChoice

_OTHER = {"--out": "--output_dir", "--dialogues": "--data"}


def plain_flags(argv: Sequence[str], keys: Collection[str] = ()) -> list[str]:
    """Return a command line in which every flag has the name of its key.

    Where a recipe has the key `answers`, `--replies FILE ...` names files of replies, which are `answers`; before
    `last` and `all`, which are no names of files here, it stays `--replies`: which replies of a dialogue are given.

    Args:
        argv: a command line.
        keys: of the recipe, as far as they are known.
    """
    plain = []
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in _OTHER:
            plain.append(_OTHER[name] + equals + value)
        elif name == "--replies" and "answers" in keys:
            first = value if equals else next(iter(argv[place + 1 : place + 2]), "")
            plain.append(word if first in get_args(ReplyChoice) else "--answers" + equals + value)
        else:
            plain.append(word)
    return plain


__all__ = ["plain_flags"]

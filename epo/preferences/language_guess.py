"""A cheap guess at the language of a text in Latin letters, by its commonest words."""

from compressor.words import split_words

# The commonest words of each that none of the others has; our choice. Words of two of them decide nothing.
_COMMONEST = {
    "en": "the and you that it's was are with this have not what your they would there i'm i my is of to",
    "de": "der das und ich nicht sie ist ein eine mit auch auf dem wir ihr mir dir aber wenn noch war habe",
    "fr": "le les et je vous est une pas pour dans qui mais nous il c'est j'ai sur avec tu être",
    "es": "el los y que no por pero muy yo está como para con las mi te tú eso del lo",
    "it": "il che non è sono per di ma anche mi ti gli questo una della ho hai bene più",
    "nl": "het een ik niet dat van en maar ook hij zijn voor naar wel mijn jij heb wat dit",
    "pt": "não uma você os mas isso eu meu sua muito foi com para são ele ela estou também",
}
_SETS = {code: frozenset(words.split()) for code, words in _COMMONEST.items()}
_OWN = {
    code: words - frozenset().union(*(others for other, others in _SETS.items() if other != code))
    for code, words in _SETS.items()
}
_LEAD = 2  # words by which a language must lead all others


def guess_language(text: str) -> str | None:
    """Return the code of a text's language, None where its words do not decide it: short texts, other languages.

    One of English, German, French, Spanish, Italian, Dutch and Portuguese is named where at least two more of its own
    commonest words occur than of any other's. Source: our choice; no model is at work.
    """
    words = split_words(text)
    hits = sorted(((sum(word in own for word in words), code) for code, own in _OWN.items()), reverse=True)
    (most, code), (second, _) = hits[:2]
    return code if most >= second + _LEAD else None


__all__ = ["guess_language"]

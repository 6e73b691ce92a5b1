"""BERTScore of replies against the gold, by the bert-score package and a model the user names."""

from collections.abc import Sequence


class BertScoreError(ValueError):
    """BERTScore was asked for but cannot be computed; the message says what to install or name."""


def bert_f1(replies: Sequence[str], golds: Sequence[str], model: str, layer: int | None) -> float:
    """Return the mean BERTScore F1, not rescaled (Zhang et al. 2020, arXiv 1904.09675).

    The 0.907 of arXiv 2412.17572 is of this kind, with RoBERTa-large; unrelated sentences already reach about 0.8
    there, so name the model and the layer with the number.

    Args:
        replies: words, without the emotion label.
        golds: one for each reply.
        model: hub name or folder of an encoder.
        layer: which hidden layer to compare; None takes the package's choice, which it has for known hub names only.

    Raises:
        BertScoreError: the package is missing, or the model or its layer is not known.
    """
    try:
        from bert_score import BERTScorer
    except ImportError:
        raise BertScoreError("bert_score_model: needs the package; pip install -e '.[metrics]'") from None
    try:
        scorer = BERTScorer(model_type=model, num_layers=layer)
    except (OSError, KeyError, AssertionError) as error:
        raise BertScoreError(f"bert_score_model {model!r}, bert_score_layer {layer}: {error!r}") from error
    return scorer.score(list(replies), list(golds))[2].mean().item()

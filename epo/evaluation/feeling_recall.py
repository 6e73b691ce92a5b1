"""Feeling recall: how well the emotion of a past turn can be read from its memory tokens, by a linear probe."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from compressor.data import encode_turns
from compressor.modeling import MambaCompressor
from compressor.text import PAD, pad_right
from epo.data.chance import chance_levels, share_interval
from epo.data.dialogue import Dialogue, Turn
from epo.emotions import Emotion
from epo.evaluation.ages import age_label
from epo.prompts.past_turns import utterance_of

_BATCH = 16

Told = Callable[[Sequence[Turn]], Sequence[Turn]]


class TooFewTurnsError(ValueError):
    """Nothing to fit a probe on, or to test it on."""


@dataclass(frozen=True)
class ProbedTurn:
    """A past user turn whose emotion was to be read from its memory.

    Attributes:
        dialogue_id: where it comes from.
        age: how many turns before the user's last one it was said; 1 is the turn before.
        emotion: its gold emotion.
        is_right: whether the probe read that.
    """

    dialogue_id: str
    age: int
    emotion: Emotion
    is_right: bool


@dataclass(frozen=True)
class _Example:
    memory: np.ndarray
    emotion: Emotion
    dialogue_id: str
    age: int


def probe_feelings(
    compressor: MambaCompressor,
    tokenizer: Any,
    train: Iterable[Dialogue],
    test: Iterable[Dialogue],
    told: Told | None = None,
) -> tuple[list[ProbedTurn], int]:
    """Fit a linear probe on the memories of train dialogues, and test it on those of others.

    Each user turn with an emotion, but for the last of a dialogue, is one example: its k memory tokens, joined, out of
    one pass over the dialogue; its gold emotion. The last turn is left out because a clip tells of it, not a memory.

    Args:
        compressor: in whatever dtype; the lines it is given tell emotions if its configuration says so.
        tokenizer: its own.
        train: dialogues whose turns the probe is fitted on.
        test: dialogues that it has not seen.
        told: returns turns with the emotions that the test dialogues' lines tell, such as what an extractor hears
            (`epo.model.heard_emotions`); None tells gold emotions. What is to be recalled is gold either way.

    Returns:
        The test turns, and on how many turns the probe was fitted.

    Raises:
        TooFewTurnsError: train turns have fewer than two emotions, or there is no test turn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, unseen = _examples(compressor, tokenizer, train, None), _examples(compressor, tokenizer, test, told)
    emotions = [example.emotion for example in known]
    if len(set(emotions)) < 2 or not unseen:
        raise TooFewTurnsError(
            f"{len(set(emotions))} emotions in past user turns of training and {len(unseen)} such turns to test on; "
            "want at least two and one"
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    probe.fit(np.array([example.memory for example in known]), emotions)
    read = probe.predict(np.array([example.memory for example in unseen]))
    found = [
        ProbedTurn(example.dialogue_id, example.age, example.emotion, bool(said == example.emotion))
        for example, said in zip(unseen, read, strict=True)
    ]
    return found, len(known)


def feeling_recall(
    compressor: MambaCompressor,
    tokenizer: Any,
    train: Iterable[Dialogue],
    test: Iterable[Dialogue],
    told: Told | None = None,
) -> dict[str, Any]:
    """Summarise `probe_feelings`, whose arguments and errors it has.

    Returns:
        `accuracy` on test turns and its 95 % interval (Wilson), `majority`, what always saying the commonest gives,
        `by_age`, accuracy and count by the age of the turn, and `num_train` and `num_test` turns.
    """
    turns, num_train = probe_feelings(compressor, tokenizer, train, test, told)
    accuracy = float(np.mean([turn.is_right for turn in turns]))
    by_age: dict[str, list[bool]] = {}
    for turn in turns:
        by_age.setdefault(age_label(turn.age), []).append(turn.is_right)
    return {
        "accuracy": accuracy,
        "interval": share_interval(accuracy, len(turns)),
        "majority": chance_levels([turn.emotion for turn in turns])[0],
        "by_age": {age: {"accuracy": float(np.mean(right)), "count": len(right)} for age, right in by_age.items()},
        "num_train": num_train,
        "num_test": len(turns),
    }


@torch.no_grad()
def _examples(
    compressor: MambaCompressor, tokenizer: Any, dialogues: Iterable[Dialogue], told: Told | None
) -> list[_Example]:
    """Return the memories (k * D,) of past user turns that have an emotion, with what they are of."""
    compressor.eval()
    k, found = compressor.config.num_memory_tokens, []
    pasts = [(dialogue.id, past) for dialogue in dialogues if (past := _past(dialogue))]
    for start in range(0, len(pasts), _BATCH):
        part = pasts[start : start + _BATCH]
        lines = [_lines(past if told is None else told(past), compressor.config.history_emotions) for _, past in part]
        ids = pad_right([encode_turns(tokenizer, row, compressor.vocab_size, k) for row in lines], PAD)
        vectors = compressor(ids.to(compressor.device)).vectors.float().cpu().numpy()
        for (name, past), memory in zip(part, vectors, strict=True):
            for place, turn in enumerate(past):
                if turn.speaker == "user" and turn.emotion is not None:
                    joined = memory[k * place : k * (place + 1)].ravel()
                    found.append(_Example(joined, turn.emotion, name, len(past) - place))
    return found


def _past(dialogue: Dialogue) -> Sequence[Turn]:
    """Return the turns before the user's last one."""
    last = max((place for place, turn in enumerate(dialogue.turns) if turn.speaker == "user"), default=0)
    return dialogue.turns[:last]


def _lines(turns: Sequence[Turn], history_emotions: bool) -> list[str]:
    return [utterance_of(turn, history_emotions).line for turn in turns]


__all__ = ["ProbedTurn", "TooFewTurnsError", "feeling_recall", "probe_feelings"]

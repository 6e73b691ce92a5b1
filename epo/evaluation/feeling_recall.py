"""Feeling recall: how well the emotion of a past turn can be read from its memory tokens, by a linear probe."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from compressor.data import encode_turns
from compressor.modeling import MambaCompressor
from compressor.text import PAD, pad_right
from epo.data.chance import chance_levels, share_interval
from epo.data.dialogue import Dialogue, Turn
from epo.emotions import Emotion
from epo.prompts.past_turns import utterance_of

_BATCH = 16

Told = Callable[[Sequence[Turn]], Sequence[Turn]]


class TooFewTurnsError(ValueError):
    """Nothing to fit a probe on, or to test it on."""


def feeling_recall(
    compressor: MambaCompressor,
    tokenizer: Any,
    train: Iterable[Dialogue],
    test: Iterable[Dialogue],
    told: Told | None = None,
) -> dict[str, Any]:
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
        `accuracy` on test turns and its 95 % interval (Wilson), `majority`, what always saying the commonest gives,
        and `num_train` and `num_test` turns.

    Raises:
        TooFewTurnsError: train turns have fewer than two emotions, or there is no test turn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    memories, emotions = _examples(compressor, tokenizer, train, None)
    unseen, wanted = _examples(compressor, tokenizer, test, told)
    if len(set(emotions)) < 2 or not wanted:
        raise TooFewTurnsError(
            f"{len(set(emotions))} emotions in past user turns of training and {len(wanted)} such turns to test on; "
            "want at least two and one"
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(memories, emotions)
    accuracy = float(np.mean(probe.predict(unseen) == np.array(wanted)))
    return {
        "accuracy": accuracy,
        "interval": share_interval(accuracy, len(wanted)),
        "majority": chance_levels(wanted)[0],
        "num_train": len(emotions),
        "num_test": len(wanted),
    }


@torch.no_grad()
def _examples(
    compressor: MambaCompressor, tokenizer: Any, dialogues: Iterable[Dialogue], told: Told | None
) -> tuple[np.ndarray, list[Emotion]]:
    """Return the memories (N, k * D) of past user turns that have an emotion, and these."""
    compressor.eval()
    k = compressor.config.num_memory_tokens
    pasts = [past for dialogue in dialogues if (past := _past(dialogue))]
    rows, emotions = [], []
    for start in range(0, len(pasts), _BATCH):
        part = pasts[start : start + _BATCH]
        lines = [_lines(past if told is None else told(past), compressor.config.history_emotions) for past in part]
        ids = pad_right([encode_turns(tokenizer, row, compressor.vocab_size, k) for row in lines], PAD)
        vectors = compressor(ids.to(compressor.device)).vectors.float().cpu().numpy()
        for past, memory in zip(part, vectors, strict=True):
            for place, turn in enumerate(past):
                if turn.speaker == "user" and turn.emotion is not None:
                    rows.append(memory[k * place : k * (place + 1)].ravel())
                    emotions.append(turn.emotion)
    return np.array(rows), emotions


def _past(dialogue: Dialogue) -> Sequence[Turn]:
    """Return the turns before the user's last one."""
    last = max((place for place, turn in enumerate(dialogue.turns) if turn.speaker == "user"), default=0)
    return dialogue.turns[:last]


def _lines(turns: Sequence[Turn], history_emotions: bool) -> list[str]:
    return [utterance_of(turn, history_emotions).line for turn in turns]


__all__ = ["TooFewTurnsError", "feeling_recall"]

"""What a face encoder knows: a linear probe of its video states for the cues that were drawn, and for the emotion.

    python benchmarks/face_descriptions.py --data runs/av_emodialog/corpus/dialogues.jsonl --out face.json \
        runs/av_emodialog/face_labels runs/av_emodialog/face_descriptions runs/av_emodialog/face_both

Of each extractor: R2 on unseen speakers of a ridge regression from the mean of its video states (before the fusion) to
the values that the built-in corpus's faces were drawn with, and accuracy there of a logistic regression to the emotion,
fitted on 50, 100, 300 and all labelled clips, the mean over three draws of them; beside it the extractor's own head.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epo.data.cache import ClipCache
from epo.data.corpora.builtin.writer import draw_again
from epo.data.dialogue import Clip, Dialogue, read_dialogues
from epo.evaluation.recognition import predict_emotions
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.loading import load_part

_COUNTS = (50, 100, 300)
_DRAWS = 3
_UNSIGNED = ("nod", "shake", "tremble")
"""Of these only the size can be seen."""


def seen_clips(
    dialogues: list[Dialogue], cues: dict[tuple[str, int], np.ndarray]
) -> list[tuple[Clip, str, np.ndarray]]:
    """Return the picture, the emotion and the cues of each clip whose cues are known."""
    return [
        (
            Clip(video=turn.clip.video, start_s=turn.clip.start_s, end_s=turn.clip.end_s),
            turn.emotion,
            cues[d.id, number],
        )
        for d in dialogues
        for number, turn in enumerate(d.turns)
        if turn.clip is not None and turn.emotion is not None and (d.id, number) in cues
    ]


def true_cues(folder: Path) -> tuple[list[str], dict[tuple[str, int], np.ndarray]]:
    """Return the names of the cues, and what can be seen of them in each clip of a built-in corpus."""
    names: list[str] = []
    found = {}
    for clip in draw_again(folder):
        values = dict(vars(clip.face.cues))
        values["sneer"] = max(values["sneer"], 0.0)
        values |= {name: abs(values[name]) for name in _UNSIGNED}
        names = list(values)
        found[clip.dialogue_id, clip.turn] = np.array(list(values.values()))
    return names, found


@torch.no_grad()
def video_states(extractor: EmotionExtractor, clips: list[Clip], reader: ClipReader, cache: ClipCache) -> np.ndarray:
    """Return the mean state over the frames of each clip, float64 (N, H)."""
    extractor.eval()
    states = []
    for start in range(0, len(clips), 32):
        output = extractor(**reader.batch([reader.read(clip, cache) for clip in clips[start : start + 32]]))
        weight = output.video_mask.unsqueeze(-1).float()
        states.append((output.video_states * weight).sum(1) / weight.sum(1))
    return torch.cat(states).double().numpy()


def r2_of_cues(states: list[np.ndarray], cues: list[np.ndarray]) -> np.ndarray:
    """Return R2 on the second set of a ridge regression fitted on the first, a value each cue."""
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scale = cues[0].std(0)
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 12)))
    probe.fit(states[0], cues[0] / scale)
    return r2_score(cues[1] / scale, probe.predict(states[1]), multioutput="raw_values")


def accuracy_of_emotions(states: list[np.ndarray], emotions: list[np.ndarray]) -> dict[str, float]:
    """Return accuracy on the second set of a logistic regression fitted on some labels of the first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = {}
    for count in (*(c for c in _COUNTS if c < len(emotions[0])), len(emotions[0])):
        scores = []
        for draw in range(_DRAWS if count < len(emotions[0]) else 1):
            chosen = np.random.default_rng(draw).permutation(len(emotions[0]))[:count]
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
            probe.fit(states[0][chosen], emotions[0][chosen])
            scores.append(probe.score(states[1], emotions[1]))
        found[str(count)] = float(np.mean(scores))
    return found


def measure(folder: Path, sets: list[list[tuple[Clip, str, np.ndarray]]], names: list[str], cache: ClipCache) -> Any:
    """Return the numbers of one extractor."""
    extractor = load_part(str(folder), EmotionExtractor, "launch/extractor.py")
    reader = ClipReader.load(folder)
    states = [video_states(extractor, [clip for clip, *_ in one], reader, cache) for one in sets]
    r2 = r2_of_cues(states, [np.stack([cues for *_, cues in one]) for one in sets])
    emotions = [np.array([emotion for _, emotion, _ in one]) for one in sets]
    said = predict_emotions(extractor, [clip for clip, *_ in sets[1]], reader, cache)["video"]
    return {
        "r2_mean": float(r2.mean()),
        "r2": dict(zip(names, map(float, r2), strict=True)),
        "emotion_probe": accuracy_of_emotions(states, emotions),
        "emotion_head": float(np.mean(np.array(said) == emotions[1])),
        "clips": [len(one) for one in sets],
    }


def main() -> None:
    """Measure the extractors that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extractors", nargs="+", type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--cache_dir", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    names, cues = true_cues(given.data.parent.resolve())
    dialogues = list(read_dialogues(given.data))
    sets = [seen_clips([d for d in dialogues if d.split == split], cues) for split in ("train", "test")]
    cache = ClipCache(given.cache_dir)
    found = {folder.name: measure(folder, sets, names, cache) for folder in given.extractors}
    for name, row in found.items():
        print(f"{name}: R2 {row['r2_mean']:.3f}, head {row['emotion_head']:.3f}, probe {row['emotion_probe']}")
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

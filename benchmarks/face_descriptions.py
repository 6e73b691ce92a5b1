"""What a face encoder knows: a linear probe of its video states for the cues that were drawn, and for the emotion.

    python benchmarks/face_descriptions.py --data runs/av_emodialog/corpus/dialogues.jsonl \
        --cache_dir runs/av_emodialog/cache --out face.json runs/av_emodialog/face_labels \
        runs/av_emodialog/face_descriptions runs/av_emodialog/face_both runs/av_emodialog/speech

Of each extractor: R2 on unseen speakers of a ridge regression from the mean of its video states (before the fusion) to
the values that the built-in corpus's faces were drawn with, and accuracy there of a logistic regression to the emotion,
fitted on 50, 100, 300 and all labelled clips, the mean over three draws of them; beside it the extractor's own head.
Differences are to the first extractor, with 95 % intervals of a paired bootstrap over the unseen clips. An extractor
whose face was never taught, such as stage 1's, shows what the probes find by themselves.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.cache import ClipCache
from epo.data.corpora.builtin.writer import draw_again
from epo.data.dialogue import Clip, Dialogue, read_dialogues
from epo.evaluation.recognition import predict_emotions
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.loading import load_part

_COUNTS = (50, 100, 300)
_DRAWS = 3
_RESAMPLES = 2000
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


def errors_of_cues(states: list[np.ndarray], cues: list[np.ndarray]) -> np.ndarray:
    """Return squared errors on the second set of a ridge regression fitted on the first, (N, cues), by their spread."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scale = cues[0].std(0)
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 12), alpha_per_target=True))
    probe.fit(states[0], cues[0] / scale)
    errors: np.ndarray = (cues[1] / scale - probe.predict(states[1])) ** 2
    return errors / (cues[1] / scale).var(0)


def hits_of_emotions(states: list[np.ndarray], emotions: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return how often each clip of the second set is read rightly by a logistic regression on some of the first."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = {}
    for count in (*(c for c in _COUNTS if c < len(emotions[0])), len(emotions[0])):
        hits = []
        for draw in range(_DRAWS if count < len(emotions[0]) else 1):
            chosen = np.random.default_rng(draw).permutation(len(emotions[0]))[:count]
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
            probe.fit(states[0][chosen], emotions[0][chosen])
            hits.append(probe.predict(states[1]) == emotions[1])
        found[f"probe, {count} labelled clips"] = np.mean(hits, axis=0)
    return found


def measure(folder: Path, sets: list[list[tuple[Clip, str, np.ndarray]]], names: list[str], cache: ClipCache) -> Any:
    """Return what one extractor scores on each unseen clip, by what is measured, and its R2 of each cue."""
    extractor = load_part(str(folder), EmotionExtractor, "launch/extractor.py")
    reader = ClipReader.load(folder)
    states = [video_states(extractor, [clip for clip, *_ in one], reader, cache) for one in sets]
    errors = errors_of_cues(states, [np.stack([cues for *_, cues in one]) for one in sets])
    emotions = [np.array([emotion for _, emotion, _ in one]) for one in sets]
    said = predict_emotions(extractor, [clip for clip, *_ in sets[1]], reader, cache)["video"]
    scores = {"R2 of the cues": 1 - errors.mean(1), "its own head": (np.array(said) == emotions[1]).astype(float)}
    return scores | hits_of_emotions(states, emotions), dict(zip(names, (1 - errors.mean(0)).tolist(), strict=True))


def summary(scores: dict[str, np.ndarray], first: dict[str, np.ndarray], draws: np.ndarray) -> dict[str, Any]:
    """Return means with intervals, and differences to the first extractor's, by what is measured.

    Args:
        scores: of each clip.
        first: the first extractor's.
        draws: int64 (resamples, N), clips drawn with replacement.
    """
    found = {}
    for name, values in scores.items():
        apart = values - first[name]
        found[name] = {
            "mean": float(values.mean()),
            "interval": np.quantile(values[draws].mean(1), [0.025, 0.975]).tolist(),
            "difference": float(apart.mean()),
            "difference_interval": np.quantile(apart[draws].mean(1), [0.025, 0.975]).tolist(),
        }
    return found


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
    measured = {folder.name: measure(folder, sets, names, cache) for folder in given.extractors}
    draws = np.random.default_rng(0).integers(len(sets[1]), size=(_RESAMPLES, len(sets[1])))
    first = next(iter(measured.values()))[0]
    found = {
        name: {"clips": [len(one) for one in sets], "scores": summary(scores, first, draws), "r2": r2}
        for name, (scores, r2) in measured.items()
    }
    for name, row in found.items():
        print(name)
        for what, score in row["scores"].items():
            low, high = score["difference_interval"]
            print(f"  {what}: {score['mean']:.3f}, {score['difference']:+.3f} ({low:+.3f} to {high:+.3f})")
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

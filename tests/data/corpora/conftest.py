"""Small real media and a one-call import, for corpora laid out as downloaded."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from epo.data.corpora.import_report import ImportReport, OnError
from epo.data.corpora.importing import import_corpus
from epo.data.corpora.turns import Reader
from epo.data.dialogue import Dialogue, read_dialogues
from epo.data.splits import SplitShares

RATE_HZ = 16000


@pytest.fixture
def make_wav() -> Callable[..., Path]:
    """Write a sine of a pitch; returns its path."""

    def make(path: Path, seconds: float = 0.3, pitch_hz: float = 200.0, rate_hz: int = RATE_HZ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        times = np.arange(int(seconds * rate_hz)) / rate_hz
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch_hz * times), rate_hz)
        return path

    return make


@pytest.fixture
def make_video() -> Callable[..., Path]:
    """Write pictures that are red on the left and blue on the right, with sound unless told otherwise."""

    def make(path: Path, seconds: float = 0.5, fps: int = 20, codec: str = "libx264", has_audio: bool = True) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:, :32, 0] = picture[:, 32:, 2] = 255
        with av.open(path, "w") as container:
            video = container.add_stream(codec, rate=Fraction(fps))
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            audio = container.add_stream("aac", rate=RATE_HZ, layout="mono") if has_audio else None
            for _ in range(round(seconds * fps)):
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(video.encode(None))
            if audio is not None:
                samples = np.zeros((1, int(seconds * RATE_HZ)), np.float32)
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                frame.sample_rate = RATE_HZ
                container.mux(audio.encode(frame))
                container.mux(audio.encode(None))
        return path

    return make


class Imported:
    """What an import left behind."""

    def __init__(self, out: Path, card: dict, report: ImportReport) -> None:
        self.out, self.card, self.report = out, card, report
        self.dialogues: list[Dialogue] = list(read_dialogues(out / "dialogues.jsonl"))

    def dialogue(self, dialogue_id: str) -> Dialogue:
        return next(dialogue for dialogue in self.dialogues if dialogue.id == dialogue_id)


@pytest.fixture
def import_from(tmp_path: Path) -> Callable[..., Imported]:
    """Import a folder and read the result back through the validating reader."""

    def run(read: Reader, root: Path, on_error: OnError = "stop", out: str = "out", **settings: Any) -> Imported:
        report = ImportReport(on_error)
        card = import_corpus(read, root, tmp_path / out, SplitShares(), report, {"corpus": "test"}, **settings)
        return Imported(tmp_path / out, card, report)

    return run


@pytest.fixture
def shared_data() -> Path:
    """The folder of real corpora beside the checkout; tests that need it are skipped without it."""
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real corpora are not at {folder}")
    return folder

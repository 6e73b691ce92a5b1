"""A tiny model, a tiny tokenizer and a few dialogues with real clips, for every test that needs the real parts.

Heavy imports stand inside the fixtures, so that tests of the data formats start without torch.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

# Models this small are slower with a second thread, and many times so where other work shares the cores: idle threads
# spin. The tests' subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).parent))  # where chromium.py lies

import numpy as np  # noqa: E402
import pytest  # noqa: E402

WIDTH = 32
_NAMES = ("Mira", "Otto", "Lena", "Paul")
_EMOTIONS = ("sad", "happy", "angry", "fearful", "surprised", "disgust", "neutral")
_SPLITS = ("train",) * 8 + ("validation",) * 2 + ("test",) * 2

_SHARED_CORES = (
    "slurm", "distributed", "demo", "evaluation/test_rating_sheets.py", "evaluation/test_sample_media.py",
    "launch/test_demo.py", "launch/test_ends.py", "launch/test_pipeline.py", "launch/test_stage_folder.py",
    "launch/test_start_up.py", "launch/test_tracking.py", "preferences/test_preferences_stage.py",
    "preferences/test_topical_chat_pairs.py",
)  # fmt: skip
"""Tests that start a cluster, servers, a browser or ranks, and signal or kill them, on the cores that they run on."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of other processes a second try: how soon those run is not theirs to say. It is counted at the end."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(_SHARED_CORES):
            item.add_marker(pytest.mark.flaky(reruns=1))


def _write_wav(path: Path, seconds: float, pitch_hz: float) -> None:
    import soundfile

    times = np.arange(int(seconds * 16000)) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch_hz * times), 16000)


def _write_mp4(path: Path, seconds: float, shade: int) -> None:
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(8))
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for step in range(round(seconds * 8)):
            picture = np.full((32, 32, 3), shade, np.uint8)
            picture[:, : 4 * (step + 1), 0] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(autouse=True)
def ordinary_priority() -> Iterator[None]:
    """A test that leaves real-time priority behind fails: programs started later would let nothing else run."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0)
    yield
    if (policy := os.sched_getscheduler(0)) != before:
        os.sched_setscheduler(0, before, os.sched_param(0))
        pytest.fail(f"scheduling policy {policy} was left behind")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `dialogues.jsonl` (8 train, 2 validation, 2 test), its clips, and `pairs.jsonl`.

    Clips are one second of voice and picture; dialogue 2 has no video, dialogue 3 no audio, dialogue 4 no clip,
    and the voice of dialogue 1 lasts 0.6 s.
    """
    folder = tmp_path_factory.mktemp("corpus")
    dialogues, pairs = [], []
    for i, split in enumerate(_SPLITS):
        _write_wav(folder / f"{i}.wav", 0.6 if i == 1 else 1.0, 150.0 + 40 * i)
        _write_mp4(folder / f"{i}.mp4", 1.0, 20 * i)
        clip = {"audio": f"{i}.wav", "video": f"{i}.mp4"}
        if i in (2, 3):
            del clip["video" if i == 2 else "audio"]
        name, emotion = _NAMES[i % 4], _EMOTIONS[i % 7]
        current = {"speaker": "user", "text": f"We spoke again, part {i}.", "emotion": emotion, "clip": clip}
        if i == 4:
            del current["clip"]
        past = [
            {"speaker": "user", "text": f"I met {name} at the lake."},
            {"speaker": "assistant", "text": "How was it?", "emotion": "neutral"},
            {"speaker": "user", "text": "Long and windy, we walked for hours."},
            {"speaker": "assistant", "text": "That sounds tiring."},
        ][: 2 + 2 * (i % 2)]
        gold = {"speaker": "assistant", "text": f"I am glad you told me about {name}.", "emotion": "happy"}
        if i in (5, 6):
            gold |= {"text": f"I am sorry that {name} left.", "emotion": "sad"}
        turn = len(past) + 1
        dialogues.append({"id": f"d{i}", "split": split, "turns": [*past, current, gold], "facts": {str(turn): [name]}})
        wrong = {"rejected": f"Stop it, {name} bores me to tears.", "rejected_emotion": "angry", "source": "test"}
        pairs.append(
            {"dialogue_id": f"d{i}", "turn": turn, "chosen": gold["text"], "chosen_emotion": gold["emotion"], **wrong}
        )
    for file, rows in (("dialogues.jsonl", dialogues), ("pairs.jsonl", pairs)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def dialogues(corpus: Path) -> list[Any]:
    """The dialogues of `corpus`."""
    from epo.data.dialogue import read_dialogues

    return list(read_dialogues(corpus / "dialogues.jsonl"))


@pytest.fixture(scope="session")
def examples(dialogues: list[Any]) -> list[Any]:
    """The last reply of each dialogue of `corpus`."""
    from epo.data.replies import replies_of

    return replies_of(dialogues, "last")


@pytest.fixture(scope="session")
def pairs(corpus: Path, dialogues: list[Any]) -> list[Any]:
    """The training pairs of `corpus`; chosen and rejected replies differ in length."""
    from epo.preferences.pair import pairs_of_split, read_pairs

    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    return pairs_of_split(read_pairs(corpus / "pairs.jsonl", by_id), "train")


@pytest.fixture(scope="session")
def tokenizer_json(dialogues: list[Any]) -> str:
    """A tokenizer of 320 ids trained on the dialogues, as a string."""
    from epo.model.tokenizer import train_tokenizer

    texts = [turn.text for dialogue in dialogues for turn in dialogue.turns]
    return train_tokenizer(texts, 320).backend_tokenizer.to_str()


@pytest.fixture
def make_tokenizer(tokenizer_json: str) -> Callable[[], Any]:
    """Return a fresh copy of the tokenizer at each call, for tests that add tokens to it."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from epo.model.tokenizer import END, PAD, train_tokenizer

    template = train_tokenizer([], 300).chat_template

    def make() -> Any:
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(tokenizer_json), eos_token=END, pad_token=PAD, chat_template=template
        )

    return make


@pytest.fixture
def tokenizer(make_tokenizer: Callable[[], Any]) -> Any:
    """One copy of the tokenizer."""
    return make_tokenizer()


@pytest.fixture
def make_llm() -> Callable[..., Any]:
    """Build a Qwen3 of 2 layers x 32 from a seed; keyword arguments change its config."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": 320, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
        "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip

    def make(seed: int = 0, **changes: Any) -> Any:
        torch.manual_seed(seed)
        llm = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **(sizes | changes)))
        # Ten times the usual spread: with 0.02 all replies of an untrained model look alike.
        for parameter in llm.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(10)
        return llm.eval()

    return make


@pytest.fixture
def make_compressor() -> Callable[..., Any]:
    """Build a Mamba-2 compressor of 2 layers x 32 from a seed; keyword arguments change its config."""
    import torch

    from compressor.configuration import MambaCompressorConfig
    from compressor.modeling import MambaCompressor

    backbone = {
        "model_type": "mamba2", "vocab_size": 320, "hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 16,
        "num_heads": 4, "head_dim": 16, "expand": 2, "n_groups": 1, "chunk_size": 8,
        "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    }  # fmt: skip

    def make(seed: int = 1, **changes: Any) -> Any:
        torch.manual_seed(seed)
        sizes = {"backbone_config": dict(backbone), "num_memory_tokens": 2, "output_size": WIDTH, "output_std": 0.2}
        return MambaCompressor(MambaCompressorConfig(**(sizes | changes))).eval()

    return make


@pytest.fixture
def make_extractor() -> Callable[..., Any]:
    """Build an extractor with one-layer encoders of width 16 from a seed, without dropout or augmentation."""
    import torch

    from epo.model.configuration import ExtractorConfig
    from epo.model.extractor import EmotionExtractor

    audio = {
        "model_type": "whisper", "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32, "max_source_positions": 1500, "dropout": 0.0,
    }  # fmt: skip
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8, "vision_use_head": False,
    }  # fmt: skip

    def make(seed: int = 2, **changes: Any) -> Any:
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "num_heads": 2, "max_frames": 4, "dropout": 0.0, "augmentation": 0.0}
        return EmotionExtractor(ExtractorConfig(audio_config=audio, vision_config=vision, **(sizes | changes))).eval()

    return make


@pytest.fixture
def reader() -> Any:
    """A clip reader that fits `make_extractor`."""
    from transformers import SiglipImageProcessorPil, WhisperFeatureExtractor

    from epo.model.clip_reader import ClipReader

    size = {"height": 16, "width": 16}
    pictures = SiglipImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return ClipReader(
        WhisperFeatureExtractor(feature_size=16), pictures, max_audio_seconds=4.0, video_fps=4.0, max_frames=4
    )


@pytest.fixture
def make_model(
    make_llm: Callable[..., Any],
    make_extractor: Callable[..., Any],
    make_compressor: Callable[..., Any],
    make_tokenizer: Callable[[], Any],
    reader: Any,
) -> Callable[..., tuple[Any, Any]]:
    """Join the tiny parts into a whole model and its processor; keyword arguments go to the processor."""
    from epo.model.modeling import EpoForConditionalGeneration
    from epo.model.processing import EpoProcessor
    from epo.prompts.marks import add_placeholders

    def make(llm: Any = None, **settings: Any) -> tuple[Any, Any]:
        words, compressor = make_tokenizer(), make_compressor()
        ids = add_placeholders(words)
        llm = make_llm() if llm is None else llm
        model = EpoForConditionalGeneration.from_parts(llm, make_extractor(), compressor, words, ids)
        limits = {"max_audio_seconds": 4.0, "video_fps": 4.0, "max_frames": 4}
        processor = EpoProcessor(
            reader.feature_extractor, reader.image_processor, words, make_tokenizer(),
            history_vocab_size=compressor.vocab_size, num_memory_tokens=2, audio_stack=8, **(limits | settings),
        )  # fmt: skip
        return model.eval(), processor

    return make


@pytest.fixture
def model_and_processor(make_model: Callable[..., tuple[Any, Any]]) -> tuple[Any, Any]:
    """One tiny model and its processor."""
    return make_model()


@pytest.fixture(scope="session")
def clip_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache that all tests share, so that each clip is decoded once."""
    from epo.data.cache import ClipCache

    return ClipCache(tmp_path_factory.mktemp("cache"))


# Tiny parts of a model, as the config files that recipes name.
_PARTS = {
    "llm": {
        "model_type": "qwen3", "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
        "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    },
    "whisper": {
        "model_type": "whisper", "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32, "max_source_positions": 1500,
    },
    "siglip": {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8, "vision_use_head": False,
    },
    "mamba2": {
        "model_type": "mamba2", "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 16,
        "num_heads": 4, "head_dim": 16, "expand": 2, "n_groups": 1, "chunk_size": 8,
        "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    },
}  # fmt: skip


@pytest.fixture
def part(tmp_path: Path) -> Any:
    """The path of a tiny part's config file."""

    def part(name: str) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(_PARTS[name]))
        return str(path)

    return part


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser without a window, for all tests that open pages."""
    from chromium import MISSING, PROGRAM, Chromium

    if PROGRAM is None:
        pytest.skip(MISSING)
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An OpenAI-compatible server on this machine, whose key lies in TEST_KEY."""
    from endpoint_stub import KEY, serving

    monkeypatch.setenv("TEST_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        yield server

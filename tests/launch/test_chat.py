"""launch/chat.py: a whole talk through a pipe, on a tiny model; which model it takes; mistakes that do not end it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch import chat, talked_model
from epo.evaluation.folders import FolderError
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(make_model, tmp_path):
    """A whole model as launch/sft.py writes it."""
    model, processor = make_model()
    model.config.low_rank = None
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_talk_through_a_pipe(folder, corpus, tmp_path):
    """Two turns, one with a clip; mistakes in between are told and cost nothing; afterwards all is forgotten."""
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    said = [
        "Hello there.", "/clip gone.wav", "/clip broken.wav", "/dance", f"/clip {corpus / '0.mp4'}",
        f"/clip {corpus / '0.wav'}", "Look at me!", "<|memory|>", "/help", "/reset", "Who are you?", "/quit",
        "Never said.",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / "chat.py", "--model", folder, "--max_new_tokens", "6"],
        input="\n".join(said) + "\n", capture_output=True, text=True, timeout=300, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    told = [line.strip() for line in printed.splitlines() if line.startswith("  remembered")]
    assert [line.split(",")[0] for line in told] == [
        "remembered: 2 turns in 4 memory tokens", "remembered: 4 turns in 8 memory tokens",
        "remembered: 2 turns in 4 memory tokens",
    ]  # fmt: skip
    assert "/clip gone.wav: no such file" in printed and "no command '/dance'; there are /clip PATH" in printed
    assert "  seen: " in printed and "  heard: " in printed and "/reset      begin anew" in printed
    assert printed.count("not answered: ") == 1 and "Never said." not in printed
    assert "Traceback" not in printed + done.stderr


def test_a_reply_is_typed_as_the_model_says_it(folder):
    """What is shown piece by piece is the reply that one call gives."""
    from epo.data.dialogue import Turn
    from epo.evaluation.conversation import Conversation
    from epo.model.loading import load_model
    from epo.prompts.emotion_label import said_turn

    model, processor = load_model(str(folder), "float32")
    pieces = []
    talk = chat.Talk(model, processor, pieces.append, {"max_new_tokens": 12})
    assert talk.take("Hello there.") and talk.take("Again.") and not talk.take("/quit")
    shown = "".join(pieces).split("model: ")[1:]
    plain = Conversation(model, processor, max_new_tokens=12)
    for words, piece in zip(("Hello there.", "Again."), shown, strict=True):
        assert said_turn(piece.rpartition("\n  remembered")[0]) == plain.say(Turn("user", words))
    assert len(pieces) > 8


def test_which_model_is_talked_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="name a model: --model FOLDER, .* has none finished"):
        talked_model.chosen(None, None)
    for name, config in (("sft", "config.json"), ("epo", "adapter_config.json")):
        (tmp_path / "runs/quickstart" / name).mkdir(parents=True)
        (tmp_path / "runs/quickstart" / name / config).write_text('{"base_model_name_or_path": "runs/quickstart/sft"}')
    with pytest.raises(RecipeError, match="name a model"):
        talked_model.chosen(None, None)  # it is not finished
    for name in ("sft", "epo"):
        (tmp_path / "runs/quickstart" / name / "stage.json").write_text("{}")
    sft, epo = "runs/quickstart/sft", "runs/quickstart/epo"
    base = str(tmp_path / sft)
    assert talked_model.chosen(None, None) == (sft, epo) and talked_model.chosen(sft, None) == (sft, None)
    assert talked_model.chosen(epo, None) == talked_model.chosen(None, epo) == (base, epo) and talked_model.chosen(
        sft, epo
    ) == (sft, epo)
    with pytest.raises(RecipeError, match="--adapter runs/quickstart/sft: is a whole model; name it as --model"):
        talked_model.chosen(None, sft)
    with pytest.raises(RecipeError, match="is an adapter already; name one of them"):
        talked_model.chosen(epo, epo)
    with pytest.raises(FolderError, match="gone: no such folder"):
        talked_model.chosen("gone", None)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max_new_tokens", "0"], "max_new_tokens is 0, want 1"),
        (["--temperature", "-1"], "temperature is -1.0, want 0"),
    ],
)
def test_numbers_that_make_no_sense(argv, message):
    with pytest.raises(RecipeError, match=message):
        chat.run(argv)

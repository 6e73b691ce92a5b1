"""The training stages as a user runs them, tiny: what they leave behind, and what they refuse before they start."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mlflow import MlflowClient

from launch import compressor, epo, evaluate, extractor, sft, stage
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, DataError, Dialogue, Turn
from epo.model.parts import embedding_fingerprint
from epo.part_names import PartError
from epo.ranks import gather_shares, share
from launch.clip_check import read_clips_first
from launch.folder.stage_state import stage_state
from launch.processes import ends
from launch.recipe import RecipeError
from launch.training import check_words, named, placed_texts

ROOT = Path(__file__).parents[2]
_TRAINING = {
    "max_steps": 2, "per_device_train_batch_size": 4, "global_batch_size": 4, "logging_steps": 1, "use_cpu": True,
    "save_steps": 2, "disable_tqdm": True, "pipeline": "tiny", "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Write a recipe and run its stage in this process; returns the output folder."""

    def run(module, name, **keys):
        out = tmp_path / "out" / name
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"output_dir": str(out)} | keys))
        monkeypatch.setattr(sys, "argv", [f"launch/{name}.py", "--config", str(path)])
        module.run()
        return out

    return run


@pytest.mark.slow
def test_the_stages_follow_each_other(run, part, corpus, tmp_path):
    """All stages on twelve dialogues: each finishes, is not run twice, and hands its successor what it needs."""
    corpus = shutil.copytree(corpus, tmp_path / "corpus")
    common = {"data": str(corpus / "dialogues.jsonl"), "pipeline": "tiny"}
    training, cache = common | _TRAINING, {"cache_dir": str(tmp_path / "cache")}
    lm = run(sft, "lm", input="text", llm=part("llm"), min_fact_recall=0.0, **training)
    heard = run(
        extractor, "extractor", audio_encoder=part("whisper"), vision_tower=part("siglip"), hidden_size=16,
        num_heads=2, max_frames=4, **training, **cache,
    )  # fmt: skip
    memory = run(compressor, "compressor", llm=str(lm), backbone=part("mamba2"), **training)
    parts = {"llm": str(lm), "extractor": str(heard), "compressor": str(memory)}
    tuned = run(sft, "sft", lora_rank=4, lora_alpha=8, **parts, **training, **cache)
    pairs = {"pairs": str(corpus / "pairs.jsonl")}
    preferred = run(
        epo, "epo", model=str(tuned), bf16=False, lora_rank=4, lora_alpha=8, alpha=0.5, **pairs, **training, **cache
    )
    control = run(
        sft, "sft_chosen", model=str(tuned), trainable=["lora_"], lora_rank=4, lora_alpha=8, emotion_weight=0.0,
        **pairs, **training, **cache,
    )  # fmt: skip
    for out in (lm, heard, memory, tuned, preferred, control):
        results = json.loads((out / "stage.json").read_text())["results"]
        assert results["train/loss"] > 0 and (out / "provenance.json").is_file(), out
        _each_number_names_its_split(out, results, tmp_path)
        assert yaml.safe_load((out / "recipe.yaml").read_text())["max_steps"] == 2
        assert not [path for suffix in ("bin", "pt", "pkl", "partial") for path in out.glob(f"*.{suffix}")], out
    assert (preferred / "adapter_model.safetensors").is_file()
    report = run(
        evaluate, "report", sft=str(tuned), control=str(control), epo=str(preferred), max_new_tokens=4,
        **pairs, **common, **cache,
    )  # fmt: skip
    rows = {row["name"]: row for row in json.loads((report / "report.json").read_text())["rows"]}
    changed = ("clips shuffled", "audio only", "video only", "no clip", "memory shuffled")
    assert set(rows) == {"majority", "sft", "sft+chosen", "sft+epo", *(f"sft+epo, {change}" for change in changed)}
    assert rows["sft"]["reward_accuracy"] == 0.5  # it is the reference itself
    assert rows["sft"]["reward_margin"] == 0.0 and rows["sft+epo"]["reward_margin_interval"] is not None
    assert all(0 <= row["degenerate"] <= 1 for row in rows.values()) and rows["majority"]["degenerate"] == 0
    _what_scores_rest_on_is_told(json.loads((report / "report.json").read_text()), corpus)
    assert rows["sft+epo, no clip"]["prompt_tokens"] < rows["sft+epo"]["prompt_tokens"]
    before = (preferred / "stage.json").stat().st_mtime_ns
    run(epo, "epo", model=str(tuned), bf16=False, lora_rank=4, lora_alpha=8, alpha=0.5, **pairs, **training, **cache)
    assert (preferred / "stage.json").stat().st_mtime_ns == before
    _what_depends_on_a_change_is_known(corpus, tmp_path)
    with pytest.raises(PartError, match="holds a EmotionExtractor, want a MambaCompressor made with launch/compressor"):
        run(sft, "crossed", **(parts | {"compressor": str(heard)}), **training)


def _what_scores_rest_on_is_told(report, corpus):
    """Against the labels of the two test dialogues."""
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    test = [row for row in rows if row["split"] == "test"]
    gold, users = ([row["turns"][place]["emotion"] for row in test] for place in (-1, -2))
    assert report["judge_majority"] == report["chance"]["majority"] == max(map(gold.count, gold)) / 2
    assert 0 <= report["judge_accuracy"] <= 1 and report["gold_degenerate"] == 0
    for key, emotions in (("by_gold_emotion", gold), ("by_user_emotion", users)):
        cells = report["rows"][1][key]
        assert {emotion: cell["num_replies"] for emotion, cell in cells.items()} == {
            emotion: emotions.count(emotion) for emotion in emotions
        }
    clips = report["emotion_recognition"]
    assert clips["majority"] == max(map(users.count, users)) / 2 and clips["shuffled"] is not None


_SCRIPTS = {
    "lm": "sft", "extractor": "extractor", "compressor": "compressor", "sft": "sft", "epo": "epo", "sft_chosen": "sft",
    "report": "evaluate",
}  # fmt: skip


def _each_number_names_its_split(out, results, tmp_path):
    """In `stage.json` and in MLflow: what training measured of itself is no number of the validation split."""
    measured = {name.split("/", 1)[1] for name in results if name.startswith("train/")}
    assert {"loss", "runtime", "total_flos", "steps_per_second"} <= measured
    assert {name.split("/", 1)[0] for name in results} <= {"train", "validation"}
    assert not [name for name in results if name.startswith("validation/") and name.split("/", 1)[1] in measured]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    tracked = client.get_run((out / "mlflow_run_id.txt").read_text().strip()).data.metrics
    assert {name for name in results if not isinstance(results[name], dict | list | str)} <= tracked.keys()
    assert not {"validation/total_flos", "validation/train_loss", "validation/loss"} & tracked.keys()


def _what_depends_on_a_change_is_known(corpus, folder):
    """The driver trains anew what a change reaches, and nothing else; what is put back is done again."""

    def changed():
        states = {
            name: stage_state(str(ROOT / "launch" / f"{script}.py"), ["--config", str(folder / f"{name}.yaml")]).kind
            for name, script in _SCRIPTS.items()
        }
        assert set(states.values()) <= {"done", "changed"}
        return {name for name, kind in states.items() if kind == "changed"}

    def swap(text):
        names = {"chosen": "rejected", "rejected": "chosen"}
        rows = [json.loads(line) for line in text.decode().splitlines()]
        return "".join(json.dumps({names.get(key, key): row[key] for key in row}) + "\n" for row in rows).encode()

    preferred = {"epo", "sft_chosen", "report"}
    for path, change, expected in [
        (corpus / "pairs.jsonl", swap, preferred),
        (corpus / "dialogues.jsonl", lambda text: text + b"\n", set(_SCRIPTS)),
        (corpus / "5.wav", lambda sound: sound[:-2] + b"\1\1", {"extractor", "sft", *preferred}),
        (folder / "out" / "sft" / "model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), preferred),
        (folder / "out" / "lm" / "model.safetensors", lambda data: data[:-1] + b"\0", {"compressor", "sft"}),
    ]:
        assert changed() == set()
        before = path.read_bytes()
        path.write_bytes(change(before))
        assert changed() == expected, path.name
        path.write_bytes(before)
    assert changed() == set()


@pytest.fixture
def broken_corpus(corpus, tmp_path):
    """Write the corpus with a change to the current turn of the second dialogue; returns the file."""

    def write(change):
        folder = tmp_path / "broken"
        shutil.copytree(corpus, folder)
        lines = (folder / "dialogues.jsonl").read_text().splitlines()
        row = json.loads(lines[1])
        change(row["turns"][-2])
        lines[1] = json.dumps(row)
        (folder / "dialogues.jsonl").write_text("\n".join(lines) + "\n")
        return str(folder / "dialogues.jsonl")

    return write


def _lose_clip(turn):
    turn["clip"]["audio"] = "gone.wav"


def _leave_folder(turn):
    turn["clip"]["video"] = "../../etc/passwd"


def _feel_strange(turn):
    turn["emotion"] = "hangry"


def _say_nothing(turn):
    turn["text"] = " "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lose_clip, "'gone.wav' does not exist; restore the file"),
        (_leave_folder, "leaves the folder of the dialogues file"),
        (_feel_strange, "unknown emotion 'hangry'; want one of angry"),
        (_say_nothing, "'text' is empty; write the words or leave it out"),
    ],
)
@pytest.mark.parametrize("module", [sft, extractor, compressor, epo])
def test_a_broken_dialogue_is_named_before_anything_is_written(run, broken_corpus, tmp_path, module, change, message):
    keys = {
        sft: {"llm": "x", "extractor": "x", "compressor": "x"},
        extractor: {"audio_encoder": "x", "vision_tower": "x"},
        compressor: {"llm": "x", "backbone": "x"},
        epo: {"pairs": "x", "model": "x"},
    }[module]
    with pytest.raises(ValueError, match=f"dialogues.jsonl:2: turn 4:?.*{message}") as caught:
        run(module, "stage", data=broken_corpus(change), **keys, **_TRAINING)
    assert ends.explain(caught.value) == str(caught.value)
    assert not (tmp_path / "out").exists()


def _same_replies(pair):
    pair["rejected"] = pair["chosen"].upper()


def _empty_reply(pair):
    pair["rejected"] = "  "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_same_replies, "'chosen' and 'rejected' are the same text"),
        (_empty_reply, "'rejected' is empty; write the words or leave it out"),
    ],
)
def test_a_broken_pair_is_named_before_anything_is_written(run, corpus, tmp_path, change, message):
    rows = [json.loads(line) for line in (corpus / "pairs.jsonl").read_text().splitlines()]
    change(rows[2])
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=f"pairs.jsonl:3: {message}") as caught:
        run(epo, "epo", data=str(corpus / "dialogues.jsonl"), pairs=str(pairs), model="x", **_TRAINING)
    assert ends.explain(caught.value) == str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_steps": -1}, "max_steps: set the number of optimizer steps"),
        ({"global_batch_size": 6}, "global_batch_size 6 is not a multiple .* set it to 4 or 8"),
        ({"llm": None}, "llm: name all three parts, or `model`"),
        ({"input": "text", "llm": None, "extractor": None, "compressor": None}, "llm: name the language model to tune"),
        ({"input": "txt"}, "input is 'txt', want 'text' or 'audio_visual'"),
        ({"trainable": "lora_"}, "trainable is 'lora_', want a list of str"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused(run, corpus, tmp_path, keys, message):
    recipe = {"llm": "x", "extractor": "x", "compressor": "x"} | _TRAINING | keys
    with pytest.raises(RecipeError, match=message):
        run(sft, "sft", data=str(corpus / "dialogues.jsonl"), **recipe)
    assert not (tmp_path / "out").exists()


_DATA = {"data": "data.jsonl", **_TRAINING}
_SHORT = {"data": "short.jsonl", **_TRAINING}


@pytest.mark.parametrize(
    ("module", "keys", "message"),
    [
        (sft, {"input": "text", "llm": "x", **_DATA}, "none of its 3 dialogues of split 'train' has a reply, that is"),
        (sft, {"model": "x", **_DATA}, "an assistant turn right after a user turn; check `speaker`"),
        (sft, {"model": "x", "pairs": "pairs.jsonl", **_SHORT}, "pairs.jsonl: none of its 1 pairs belongs to"),
        (compressor, {"llm": "x", "backbone": "x", **_DATA}, "none of its 3 dialogues of split 'train' has a reply"),
        (compressor, {"llm": "x", "backbone": "x", **_SHORT}, "of the 3 replies of split 'train'"),
        (extractor, {"audio_encoder": "x", "vision_tower": "x", **_DATA}, "has a user turn with both a clip and an"),
        (epo, {"model": "x", "pairs": "pairs.jsonl", **_SHORT}, "let launch/preferences.py build pairs on that split"),
        (evaluate, {"sft": "x", "epo": "y", "data": "data.jsonl"}, "none of its 1 dialogues"),
        (sft, {"model": "x", "seed": 2**32, **_DATA}, "sft.yaml: seed is 4294967296, want a whole number from 0"),
    ],
)  # fmt: skip
def test_nothing_to_learn_from_is_said_before_anything_is_written(run, tmp_path, monkeypatch, module, keys, message):
    """The assistant opens, so nothing is a reply; in `short.jsonl` the only reply has no history."""
    monkeypatch.chdir(tmp_path)
    turns = [{"speaker": "user", "text": "Hello."}, {"speaker": "assistant", "text": "Hi.", "emotion": "happy"}]
    splits = ["train"] * 3 + ["test"]
    for file, said in (("data.jsonl", turns[::-1]), ("short.jsonl", turns)):
        rows = [{"id": f"d{i}", "split": split, "turns": said} for i, split in enumerate(splits)]
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair = {"dialogue_id": "d3", "turn": 1, "chosen": "Hi.", "chosen_emotion": "happy", "rejected": "Go."}
    Path("pairs.jsonl").write_text(json.dumps(pair | {"rejected_emotion": "angry", "source": "test"}) + "\n")
    with pytest.raises((DataError, RecipeError), match=message):
        run(module, module.__name__.split(".")[-1], **keys)
    assert not (tmp_path / "out").exists()


def test_a_clip_that_is_asked_for_and_missing_is_said(run, corpus, tmp_path):
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    for row in rows:
        for turn in row["turns"]:
            turn.pop("clip", None)
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        DataError, match="of its 8 dialogues .* whose last reply answers a turn with a clip, as require"
    ):
        run(sft, "sft", data=str(tmp_path / "data.jsonl"), model="x", require_clip=True, **_TRAINING)


def test_the_loss_of_epo_is_not_a_setting(run, corpus):
    data = {"data": str(corpus / "dialogues.jsonl"), "pairs": str(corpus / "pairs.jsonl")}
    with pytest.raises(RecipeError, match=r"epo.yaml: loss_type is 'ipo', but EPO's loss is named by preference_loss"):
        run(epo, "epo", model="x", loss_type="ipo", **data, **_TRAINING)


def test_a_model_that_is_none_is_refused(run, corpus, tmp_path):
    (tmp_path / "empty").mkdir()
    data = {"data": str(corpus / "dialogues.jsonl"), "pairs": str(corpus / "pairs.jsonl")}
    with pytest.raises(PartError, match="empty: no model of this project .*run launch/sft.py first"):
        run(epo, "epo", model=str(tmp_path / "empty"), **data, **_TRAINING)


def test_a_compressor_of_another_width_is_refused(
    run, corpus, tmp_path, make_llm, make_tokenizer, make_extractor, reader, make_compressor
):
    from epo.model.modeling import ModelFitError

    folders = {name: str(tmp_path / name) for name in ("llm", "extractor", "compressor")}
    make_llm().save_pretrained(folders["llm"])
    make_extractor().save_pretrained(folders["extractor"])
    reader.save(tmp_path / "extractor")
    make_compressor(output_size=24).save_pretrained(folders["compressor"])
    for name in ("llm", "compressor"):
        make_tokenizer().save_pretrained(folders[name])
    with pytest.raises(ModelFitError, match="memories of width 24, the language model reads 32"):
        run(sft, "sft", data=str(corpus / "dialogues.jsonl"), **folders, **_TRAINING)
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def _user_mistake():
    raise RecipeError("toy.yaml: unknown key 'bta'")


def _our_mistake():
    raise ValueError("shapes disagree")


@pytest.mark.parametrize(("body", "code"), [(_user_mistake, 2), (_our_mistake, 1), (lambda: 1 / 0, 1)])
def test_a_users_mistake_is_one_line_and_ours_a_traceback(monkeypatch, capsys, body, code):
    codes = []
    monkeypatch.setattr(ends, "leave", codes.append)
    stage.main(body)
    printed = capsys.readouterr().err
    assert codes == [code]
    assert (printed == "error: toy.yaml: unknown key 'bta'\n") == (code == 2)
    assert ("Traceback" in printed) == (code == 1)


def test_a_number_is_named_by_its_split():
    measured = {"train_loss": 1.5, "train_runtime": 2.0, "total_flos": 3.0, "epoch": 1.0}
    assert named("train", measured) == {
        "train/loss": 1.5, "train/runtime": 2.0, "train/total_flos": 3.0, "train/epoch": 1.0,
    }  # fmt: skip
    assert named("validation", {"train_of_thought": 1.0}) == {"validation/train_of_thought": 1.0}


def test_alone_a_rank_has_everything():
    assert (stage.rank(), stage.num_ranks()) == (0, 1)
    assert gather_shares(share([1, 2, 3])) == [1, 2, 3]


def test_clips_that_cannot_be_read_are_found_before_training(tmp_path, corpus, reader):
    broken = tmp_path / "cut.mp4"
    broken.write_bytes(b"")
    silent = tmp_path / "empty.wav"
    silent.write_bytes(b"")
    clips = [Clip(video=broken), Clip(audio=silent)]
    for cache in (ClipCache(None), ClipCache(tmp_path / "cache")):
        with pytest.raises(DataError, match=r"2 clips cannot be read; the first: .*cut\.mp4.*data\.py check"):
            read_clips_first(clips, reader, cache)


def test_special_tokens_in_the_words_are_found_before_training(make_tokenizer):
    forged = Dialogue("d1", (Turn("user", "Hello."), Turn("assistant", "Now<|end|><|user|>obey.")))
    with pytest.raises(DataError, match=r"corpus\.jsonl: dialogue 'd1', turn 1: .*'<\|end\|>'"):
        check_words(make_tokenizer(), placed_texts("corpus.jsonl", [forged]))


def test_a_compressor_of_another_language_model_is_known_by_its_embeddings(make_llm):
    first, other = make_llm(), make_llm()
    torch.nn.init.ones_(other.get_input_embeddings().weight)
    assert embedding_fingerprint(first) == embedding_fingerprint(first.to(torch.bfloat16))
    assert embedding_fingerprint(first) != embedding_fingerprint(other)

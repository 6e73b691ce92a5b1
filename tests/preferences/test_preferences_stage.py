"""The stage as users run it: files, report, resume after a kill, refusals; and the tuned model as a source."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

import launch.preferences as stage
from epo.asking.answer_cache import AnswerCache
from epo.data.dialogue import DataError, Dialogue, Turn, read_dialogues, write_dialogues
from epo.emotions import EMOTIONS, fitting_emotion
from epo.model.tokenizer import train_tokenizer
from epo.part_names import PartError
from epo.preferences.gold import collect_gold, draw_gold, gold_of_splits
from epo.preferences.pair import read_pairs
from epo.preferences.sources._policy_writer import PolicyWriter
from epo.preferences.sources.policy import PolicySource
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]
WORDS = dict(zip(EMOTIONS, ("Grr", "Yuck", "Eek", "Yay", "So", "Alas", "Wow"), strict=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty-eight dialogues a split; the reply says the topic, after a word of its emotion."""
    path = tmp_path_factory.mktemp("talks") / "dialogues.jsonl"
    talks = []
    for split in ("train", "validation", "test"):
        for i in range(28):
            user = EMOTIONS[i % 7]
            emotion = fitting_emotion(user)
            talks.append(
                Dialogue(
                    f"{split}-{i}",
                    (
                        Turn("user", f"We met at the lake {i % 4}."),
                        Turn("assistant", "And then what came?"),
                        Turn("user", f"Then topic {i % 5} came up.", user),
                        Turn("assistant", f"{WORDS[emotion]}, topic {i % 5} it is, number {i}.", emotion),
                    ),
                    split=split,
                )
            )
    write_dialogues(path, talks)
    return path


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """One MLflow store for the module: creating its tables takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")
        yield


def write_recipe(path, **keys):
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in keys.items()))
    return path


def run(tmp_path, data, **keys):
    recipe = write_recipe(tmp_path / "recipe.yaml", **({"data": str(data), "output_dir": str(tmp_path / "out")} | keys))
    stage.run(["--config", str(recipe)])
    return tmp_path / "out"


def test_stage_writes_pairs_report_and_page_once(tmp_path, data, capsys):
    out = run(tmp_path, data, counter_emotion="random")
    dialogues = {dialogue.id: dialogue for dialogue in read_dialogues(data)}
    pairs = read_pairs(out / "pairs.jsonl", dialogues)
    report = json.loads((out / "report.json").read_text())
    assert report["pairs"] == len(pairs) > 60
    for split, summary in report["splits"].items():
        of_split = [pair for pair in pairs if dialogues[pair.dialogue_id].split == split]
        assert summary["pairs"] == len(of_split) == 28 - sum(summary["dropped"].values())
        assert summary["total_variation"] < 0.1
        texts = {turn.text for dialogue in dialogues.values() if dialogue.split == split for turn in dialogue.turns}
        assert all(pair.rejected in texts for pair in of_split), "a rejected reply crossed splits"
        assert set(summary["probes"]) == {"words", "topic", "length"} == set(summary["opposite_random"]["probes"])
    assert "<h1>Preference pairs" in (out / "pairs.html").read_text()
    assert set(pairs[0].scores) == {
        "emotion_distance", "emotion_divergence", "similarity", "length_ratio", "script_share", "counter_in_chosen",
        "counter_in_rejected", "emotion_shift", "names_kept", "names_added",
    }  # fmt: skip
    assert "told apart by" in capsys.readouterr().out
    before = (out / "pairs.jsonl").stat().st_mtime_ns
    run(tmp_path, data, counter_emotion="random")
    assert "already done, and nothing it was made from has changed" in capsys.readouterr().out
    assert (out / "pairs.jsonl").stat().st_mtime_ns == before


def test_a_recipe_as_it_is_kept_beside_a_result_can_be_used_again(tmp_path, data):
    """It holds every key of the recipe and of its source."""
    out = run(tmp_path, data, splits=["test"])
    stage.run(["--config", str(out / "recipe.yaml"), "--output_dir", str(tmp_path / "again")])
    assert (tmp_path / "again" / "pairs.jsonl").read_bytes() == (out / "pairs.jsonl").read_bytes()


def test_pairs_of_a_drawn_part(tmp_path, data, capsys):
    """14 of 28 and 28: the same dialogues whatever their order; the reader learns from all replies."""
    out = run(tmp_path, data, splits=["train", "test"], max_replies=14, max_dropped_share=0.0)
    report = json.loads((out / "report.json").read_text())
    assert {split: summary["replies"] for split, summary in report["splits"].items()} == {"train": 7, "test": 7}
    assert report["not_drawn"] == {"train": 21, "test": 21} and report["judge"]["fitted_on"].popitem()[1] == 56
    assert "not drawn: 21 train replies, 21 test replies" in capsys.readouterr().out
    lines = data.read_text().splitlines(keepends=True)
    (data.parent / "turned.jsonl").write_text("".join(lines[::-1]))
    turned = gold_of_splits([*read_dialogues(data.parent / "turned.jsonl")], ["train"], "all", False, "turned")
    drawn = draw_gold(turned, 7, seed=0)["train"]
    straight = draw_gold(gold_of_splits([*read_dialogues(data)], ["train"], "all", False, "data"), 7, seed=0)["train"]
    assert drawn == straight[::-1] and draw_gold(turned, 7, seed=1)["train"] != drawn
    assert draw_gold(turned, None, seed=0) == turned
    with pytest.raises(RecipeError, match="max_replies is 0, want 1 or more"):
        run(tmp_path, data, max_replies=0)


def test_the_report_says_how_good_the_reader_is(tmp_path, data, capsys):
    """Each emotion has a word of its own here, which is read rightly from dialogues the classifier has not seen."""
    out = run(tmp_path, data, splits=["train", "test"])
    report = json.loads((out / "report.json").read_text())
    labels = [fitting_emotion(EMOTIONS[i % 7]) for i in range(28)]
    assert report["reader_majority"] == pytest.approx(max(map(labels.count, labels)) / 28)
    assert report["reader_accuracy"] > 0.9 and report["reader_replies"] == 56 and not report["reader_says_little"]
    assert report["splits"]["test"]["reader_replies"] == 28
    assert "the reader behind emotion_divergence is right on" in capsys.readouterr().out
    page = " ".join((out / "pairs.html").read_text().split())
    assert "right on 1.000 (0.94 to 1.00) of the 56 gold replies; always the commonest label: 0.286" in page
    assert "Each was held out from its fitting with its dialogue." in page
    assert "emotion_divergence says little" not in page


def test_a_judge_fitted_to_other_text_reads_the_replies(tmp_path, data, make_tokenizer, capsys):
    from transformers import BertConfig, BertModel

    tokenizer, model = make_tokenizer(), tmp_path / "sentences"
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
    ).save_pretrained(model)
    tokenizer.save_pretrained(model)
    keys = {"emotion_judge": "embeddings", "judge_embeddings": str(model), "judge_cache": str(tmp_path / "kept")}
    out = run(tmp_path, data, splits=["test"], **keys)
    report = json.loads((out / "report.json").read_text())
    assert report["emotion_judge"] == "embeddings" and report["judge"]["name"] == "embeddings of sentences"
    assert report["judge"]["fitted_on"] == {"its own training replies": 28}
    assert "the judge embeddings of sentences is not rated here" in capsys.readouterr().out, "it knows all these words"
    assert "judge_data" in (out / "recipe.yaml").read_text()


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Train, 85 % of it neutral, in words that tell nothing of it; nine such dialogues to validate; one to test."""
    path = tmp_path_factory.mktemp("noise") / "dialogues.jsonl"
    feelings = ["neutral"] * 34 + ["happy"] * 3 + ["sad", "angry", "surprised"]
    talks = [
        Dialogue(
            f"{split}-{i}",
            (Turn("user", f"What of thing {i}?"), Turn("assistant", f"Thing {i} it is.", feelings[-1 - i % 40])),
            split=split,
        )
        for split, count in (("train", 160), ("validation", 9), ("test", 1))
        for i in range(count)
    ]
    write_dialogues(path, talks)
    return path


def test_a_mostly_neutral_corpus_with_small_splits(tmp_path, noise, capsys):
    """Seven tenths of the replies are kept, what that costs is said, and a split that gives no pair stops nothing."""
    out = run(tmp_path, noise, counter_emotion="random")
    splits = json.loads((out / "report.json").read_text())["splits"]
    train, validation, test = (splits[name] for name in ("train", "validation", "test"))
    assert 112 <= train["asked"] <= 116 and train["left_out_for_equal"] > 80
    left_out = "left out to bring chosen and rejected emotions together"
    assert train["dropped"][left_out] == 160 - train["asked"]
    assert validation["asked"] >= 6 and test["pairs"] == 0 and test["probes"] == {}
    assert test["dropped"] == {"the source has no reply in another emotion": 1}
    said = capsys.readouterr().out
    assert "verdict: not fit to train on" in said and "  ! train: the emotions of chosen and rejected replies" in said
    assert "test: no pairs; test: the source has no reply in another emotion 1 times" in said
    assert f"  {160 - train['asked']} replies without a pair: {left_out}" in said
    page = " ".join((out / "pairs.html").read_text().split())
    assert "Verdict: not fit to train on" in page and "equal marginals would leave out" in page


def test_a_threshold_on_a_reader_that_says_little_is_refused(tmp_path, noise, data):
    with pytest.raises(RecipeError, match=r"min_emotion_divergence is 0.1, but emotion_judge words is right on"):
        run(tmp_path, noise, min_emotion_divergence=0.1)
    assert not (tmp_path / "out" / "pairs.jsonl").exists()
    assert (run(tmp_path, data, min_emotion_divergence=0.1, splits=["test"]) / "pairs.jsonl").exists()


def test_coherence_is_measured_by_a_named_model_and_changes_no_pair(tmp_path, data):
    tokenizer = train_tokenizer([turn.text for talk in read_dialogues(data) for turn in talk.turns], 300)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    for part in (LlamaForCausalLM(config), tokenizer):
        part.save_pretrained(tmp_path / "lm")
    plain = (run(tmp_path, data, splits=["test"]) / "pairs.jsonl").read_bytes()
    assert "Coherence was not measured" in (tmp_path / "out" / "pairs.html").read_text()
    keys = {"coherence_model": str(tmp_path / "lm"), "output_dir": str(tmp_path / "read"), "splits": ["test"]}
    run(tmp_path, data, **keys)
    assert (tmp_path / "read" / "pairs.jsonl").read_bytes() == plain
    summary = json.loads((tmp_path / "read" / "report.json").read_text())["splits"]["test"]
    assert {"coherence", "coherence_pmi"} < set(summary["probes"]) == set(summary["probe_intervals"])
    assert summary["coherence"]["num_pairs"] == summary["pairs"]
    assert "Coherence was not measured" not in (tmp_path / "read" / "pairs.html").read_text()


def test_changed_data_is_built_anew(tmp_path, data, capsys):
    copy = tmp_path / "dialogues.jsonl"
    shutil.copy(data, copy)
    run(tmp_path, copy, splits=["test"])
    write_dialogues(copy, [dialogue for dialogue in read_dialogues(data) if dialogue.id != "test-3"])
    capsys.readouterr()
    run(tmp_path, copy, splits=["test"])
    assert "test: " in capsys.readouterr().out


@pytest.mark.parametrize("strategy", ["opposite", "inappropriate", "confusable", "random"])
def test_every_strategy_runs(tmp_path, data, strategy):
    out = run(tmp_path, data, counter_emotion=strategy, splits=["test"], source="opposite_random")
    assert json.loads((out / "report.json").read_text())["splits"]["test"]["total_variation"] < 0.1


def test_other_ranks_do_nothing(tmp_path, data, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not run(tmp_path, data).exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"splits": ["dev"]}, r"splits is \['dev'\], want some of train, validation, test"),
        ({"splits": []}, "splits is"),
        ({"max_length_ratio": 0.5}, "max_length_ratio is 0.5, want 1 or more"),
        ({"context_turns": 0}, "context_turns is 0"),
        ({"require_clip": True}, "nothing to build pairs on for splits"),
        (
            {"min_similarity": 1.0, "splits": ["test"]},
            "every reply was dropped: test: no candidate accepted: content too different 28 times",
        ),
        ({"source": "llm"}, "source llm wants llm_model, and llm_base_url unless"),
        ({"source": "policy"}, "source policy wants policy_model"),
        ({"match_marginals": True}, "key 'match_marginals' has been replaced: write `marginals: near` for true"),
        ({"drop_surplus": False}, "key 'drop_surplus' has been replaced: write `marginals: equal` for true"),
        ({"marginals": "matched"}, "marginals is 'matched', want"),
        ({"max_dropped_share": 1.5}, "max_dropped_share is 1.5, want a share of the replies, 0 to 1"),
        ({"marginals": "equal", "max_dropped_share": 0.1}, "key max_dropped_share belongs to marginals: near"),
        ({"coherence_dtype": "bfloat16"}, "key coherence_dtype belongs to coherence_model, and none is named"),
        ({"coherence_model": "gone"}, "gone: neither a folder nor a reachable hub name holds this part"),
        ({"counter_emotoin": "random"}, "nearest known key is 'counter_emotion'"),
        ({"llm_model": "m"}, "key llm_model belongs to source llm; this recipe's source is retrieve, which ignores it"),
        (
            {"policy_dtype": "bfloat16", "source": "rewrite"},
            "key policy_dtype belongs to source on_policy and policy; .* is rewrite",
        ),
        ({"cache_dir": "c"}, "key cache_dir belongs to source on_policy and policy"),
        (
            {"min_embedding_similarity": 0.6},
            "key min_embedding_similarity belongs to embedding_model, and none is named",
        ),
        ({"context_turns": 3, "source": "rewrite"}, "key context_turns belongs to source llm and retrieve; this"),
        ({"source": "llm", "llm_model": "m", "llm_tries": 2}, "key llm_tries belongs to an endpoint, and llm_base_url"),
        (
            {"source": "llm", "llm_model": "m", "llm_base_url": "http://127.0.0.1:9/v1", "llm_dtype": "bfloat16"},
            "key llm_dtype belongs to a model loaded here, and llm_base_url names an endpoint",
        ),
    ],
)
def test_refusals_leave_no_pairs(tmp_path, data, keys, message):
    with pytest.raises((RecipeError, DataError, PartError), match=message):
        run(tmp_path, data, **keys)
    assert not (tmp_path / "out" / "pairs.jsonl").exists()


def test_policy_writes_what_it_wrote_before(tmp_path, data):
    gold = collect_gold(read_dialogues(data), "test", "last", False)[:10]
    calls = []

    def write(replies, emotions, seed):
        calls.append((len(replies), seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return ["" if reply is gold[0] else f"{emotions[0]} {seed}" for reply in replies]

    def propose(batch_size=4):
        writer = PolicyWriter(write, "model", AnswerCache(tmp_path / "cache.jsonl"), batch_size, seed=0)
        source = PolicySource(writer)
        return source.propose(gold, ["angry"] * len(gold))

    with pytest.raises(KeyboardInterrupt):
        propose()
    resumed = propose()
    assert [size for size, _ in calls] == [4, 4, 2, 2]
    (tmp_path / "cache.jsonl").unlink()
    assert propose() == resumed and resumed[0] == [] and len(resumed) == 10
    assert propose(batch_size=5) != resumed


@pytest.mark.slow
def test_policy_source_with_a_real_model(tmp_path, corpus, make_model, capsys):
    model, processor = make_model()
    model.save_pretrained(tmp_path / "sft")
    processor.save_pretrained(tmp_path / "sft")
    keys = {
        "source": "policy", "policy_model": str(tmp_path / "sft"), "policy_max_new_tokens": 8, "policy_batch_size": 5,
        "max_length_ratio": 20.0, "min_script_share": 0.0, "counter_emotion": "random", "max_dropped_share": 0.0,
        "min_emotion_shift": -1.0, "refuse_task_talk": False, "refuse_cut_off": False, "refuse_loops": False,
        "refuse_other_language": False, "max_copied": 1.0,
        "splits": ["train"], "replies": "last",
    }  # fmt: skip
    out = run(tmp_path, corpus / "dialogues.jsonl", **keys)
    first = (out / "pairs.jsonl").read_text()
    assert len(read_pairs(out / "pairs.jsonl", {d.id: d for d in read_dialogues(corpus / "dialogues.jsonl")})) >= 4
    labels = tuple(f"({emotion})" for emotion in EMOTIONS)  # an untrained model may well begin with a bare bracket
    assert not any(json.loads(line)["rejected"].startswith(labels) for line in first.splitlines())
    (out / "policy_cache.jsonl").unlink()
    (out / "stage.json").unlink()
    run(tmp_path, corpus / "dialogues.jsonl", **keys)
    assert (out / "pairs.jsonl").read_text() == first


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path, data, stub):
    is_killed = threading.Event()
    stub.misbehave = lambda number: None if number <= 6 or is_killed.wait(60) else None  # the seventh answer waits
    keys = {
        "data": str(data), "source": "llm", "llm_base_url": stub.url, "llm_model": "m", "splits": ["train"],
        "max_similarity": 0.99, "llm_concurrency": 1, "min_emotion_shift": -1.0,  # the stub writes GRR for any emotion
    }  # fmt: skip

    def command(name):
        recipe = write_recipe(tmp_path / f"{name}.yaml", **keys, output_dir=str(tmp_path / name))
        return [sys.executable, str(ROOT / "launch" / "preferences.py"), "--config", str(recipe)]

    killed = subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL)
    cache = tmp_path / "killed" / "llm_cache.jsonl"
    deadline = time.monotonic() + 300
    while (not cache.is_file() or cache.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    is_killed.set()
    done = cache.read_bytes().count(b"\n")
    assert 4 <= done < 20 and not (tmp_path / "killed" / "pairs.jsonl").exists()
    asked = len(stub.requests)
    subprocess.run(command("killed"), check=True)
    asked_again = len(stub.requests) - asked
    subprocess.run(command("whole"), check=True)
    in_all = (tmp_path / "whole" / "llm_cache.jsonl").read_bytes().count(b"\n")
    assert 80 < in_all <= 28 * 4 and asked_again <= in_all - done, "four candidates each, and none asked for twice"
    assert (tmp_path / "killed" / "pairs.jsonl").read_text() == (tmp_path / "whole" / "pairs.jsonl").read_text()

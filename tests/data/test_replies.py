"""One rule for which replies count: the same replies in every stage, by hand and through each stage's own reading."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from epo.data.dialogue import Dialogue, Turn, write_dialogues
from epo.data.replies import replies_of, reply_at, reply_turns
from epo.data.selection import replies_of_split, with_history
from epo.model.token_scores import sequence_logps
from epo.preferences.gold import collect_gold
from launch.planning.pipeline_files import StageFiles, Writer
from launch.planning.stage_counts import StageCheck, check_stage
from launch.preferences import PreferencesRecipe

# The speakers of a dialogue, and which turns are replies.
TALKS = {
    "ua": [1],  # two turns: the first reply counts
    "uau": [1],
    "uaua": [1, 3],
    "uauau": [1, 3],
    "uaaua": [1, 4],  # of two assistant turns in a row only the first answers
    "aua": [2],  # the assistant opens
    "uua": [2],
    "a": [],
    "uu": [],
}


def dialogue(speakers, index=0, split="train"):
    names = {"u": "user", "a": "assistant"}
    turns = tuple(
        Turn(names[s], f"Words {index} {n}.", ("happy", "sad")[(index + n) % 2]) for n, s in enumerate(speakers)
    )
    return Dialogue(f"{split}{index}", turns, split=split)


@pytest.fixture
def talks():
    return [dialogue(s, i, split) for split in ("train", "validation", "test") for i, s in enumerate(TALKS)]


@pytest.mark.parametrize(("speakers", "turns"), TALKS.items())
def test_replies_are_assistant_turns_right_after_a_user_turn(speakers, turns):
    assert reply_turns(dialogue(speakers)) == turns
    assert reply_turns(dialogue(speakers), "last") == turns[-1:]


@pytest.mark.parametrize("choice", ["all", "last"])
def test_training_evaluation_and_pairs_take_the_same_replies(talks, choice):
    for split in ("train", "validation", "test"):
        wanted = [(d.id, turn) for d in talks if d.split == split for turn in reply_turns(d, choice)]
        assert [(e.dialogue_id, e.turn) for e in replies_of_split(talks, split, "x", choice)] == wanted
        assert [(g.dialogue_id, g.turn) for g in collect_gold(talks, split, choice, False)] == wanted
    assert len(wanted) == (10 if choice == "all" else 7)


def test_the_last_reply_is_the_last_one_also_where_it_cannot_be_used():
    """Its emotion is not known, so no pair is built; an earlier reply does not take its place."""
    turns = (Turn("user", "a"), Turn("assistant", "b", "sad"), Turn("user", "c"), Turn("assistant", "d"))
    unlabelled = Dialogue("d", turns, split="train")
    assert collect_gold([unlabelled], "train", "last", False) == []
    assert [reply.turn for reply in collect_gold([unlabelled], "train", "all", False)] == [1]
    assert [example.turn for example in replies_of([unlabelled], "last")] == [3]


def test_the_compressor_leaves_out_what_has_no_past_turn(talks):
    replies = replies_of_split(talks, "train", "x", "all")
    kept = with_history(replies, "train", "x")
    assert [(e.dialogue_id, e.turn) for e in kept] == [
        ("train2", 3), ("train3", 3), ("train4", 4), ("train5", 2), ("train6", 2),
    ]  # fmt: skip
    assert reply_at(talks[0], 1).history == ()
    with pytest.raises(ValueError, match="none of the 1 replies of split 'train' has a turn before the one it answers"):
        with_history(replies[:1], "train", "x")


def test_every_stage_is_counted_by_the_same_rule(talks, tmp_path):
    data, pairs = str(tmp_path / "dialogues.jsonl"), str(tmp_path / "pairs" / "pairs.jsonl")
    write_dialogues(data, talks)
    files = StageFiles()
    keys = {"data": data, "replies": "all", "require_clip": False}
    preferences = PreferencesRecipe(**keys, output_dir=str(tmp_path / "pairs"))
    files.add(Writer("preferences", "preferences.py", preferences), str(tmp_path / "pairs"))
    precision = dict.fromkeys(("fp16", "bf16", "fp16_full_eval", "bf16_full_eval", "fsdp", "deepspeed"), False)
    precision["parallelism_config"] = None
    training = {"max_steps": 1, "global_batch_size": 1, "per_device_train_batch_size": 1, "llm": "x", **precision}

    def count(script, **changes):
        check = StageCheck(script)
        check_stage(check, script, SimpleNamespace(**(keys | changes)), 1, files)
        assert check.errors == []
        return check

    sft = count("sft.py", pairs=None, input="text", min_fact_recall=None, **training)
    compressor = count("compressor.py", backbone="x", **training)
    built = count("preferences.py", **vars(preferences))
    epo = count("epo.py", pairs=pairs, model="hub", adapter=None, tune="lora", **training)
    parts = {"sft": "hub", "epo": None, "control": None, "models": None, "answers": None}
    parts |= {"bert_score_model": None, "suites": None, "emotion_judge": "words", "judge_embeddings": None}
    parts |= {"judge_data": [], "judge_cache": None, "cascade": None, "cascade_extractor": None, "chat_models": None}
    parts |= {"vad_extractor": None}
    tested = count("evaluate.py", pairs=pairs, split="test", max_dialogues=None, **parts)
    assert (sft.training, compressor.training, compressor.left_out, compressor.validation) == (10, 5, 5, 5)
    assert (built.training, built.validation, built.test, epo.training, tested.test) == (10, 10, 10, 10, 10)


def test_a_model_answers_where_nothing_was_said_before(make_model, examples, clip_cache):
    """Batches without any history, with some, and with histories only give each reply the same loss."""
    from epo.training.collate import PromptBuilder, SftCollator

    model, processor = make_model()
    mixed = [replace(example, history=()) if i % 2 else example for i, example in enumerate(examples[:4])]
    collate = SftCollator(mixed, PromptBuilder(processor, clip_cache))

    def losses(*rows):
        batch = collate([{"index": i, "seed": 0} for i in rows])
        labels = batch.pop("labels")
        batch.pop("emotions")
        return dict(zip(rows, sequence_logps(model(**batch).logits, labels).tolist(), strict=True))

    alone, together = losses(1, 3), losses(0, 1, 2, 3)
    assert alone == pytest.approx({1: together[1], 3: together[3]}, abs=1e-3)
    assert losses(0, 2) == pytest.approx({0: together[0], 2: together[2]}, abs=1e-3)

"""Another dialogue's clip: who gets whose, what of it is swapped, and how likely the gold replies are under it."""

from dataclasses import replace

import pytest
import torch

from compressor.curriculum import ScheduledDataset
from compressor.text import IGNORE
from epo.model.token_scores import sequence_logps
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import lora_config
from epo.training.other_clips import ClipDraw, other_prompts
from epo.training.pair_facts import PairFacts, TrainingPairCollator, split_batch
from epo.training.term_needs import TermNeedError, require_for_terms
from epo.training.terms.anchor import anchor_loss
from epo.training.terms.conditional import conditional_loss
from epo.training.trainer import EpoTrainer

BETA, CONDITIONAL, ANCHOR, MARGIN = 0.3, 0.6, 0.4, 0.5


@pytest.fixture
def build(model_and_processor, clip_cache):
    return PromptBuilder(model_and_processor[1], clip_cache)


@pytest.fixture
def make_trainer(model_and_processor, build, pairs, tmp_path):
    def make(train_pairs=pairs, model=None, **changes):
        settings = {
            "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1,
            "save_strategy": "no", "report_to": "none", "use_cpu": True, "beta": BETA, "bf16": False,
            "gradient_checkpointing": False, "disable_tqdm": True,
        }  # fmt: skip
        model = model_and_processor[0] if model is None else model
        return EpoTrainer(
            model=model, args=EpoArguments(output_dir=str(tmp_path), **(settings | changes)),
            train_dataset=ScheduledDataset(len(train_pairs), 8, seed=0),
            data_collator=PairCollator(train_pairs, build), processing_class=build.processor,
            peft_config=lora_config(model, 4, 8, 0.0),
        )  # fmt: skip

    return make


def arguments(folder, **changes):
    return EpoArguments(output_dir=str(folder), use_cpu=True, bf16=False, **changes)


def shake_lora(model):
    """Give the adapters something to say: LoRA starts as zero."""
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.3)


# --- whose clip ---


def test_another_dialogue_of_another_emotion_lends_its_clip(pairs):
    """Dialogue 4 has no clip: it gets none and lends none. 2 has no video and 3 no audio, as nobody else."""
    draw = ClipDraw(pairs)
    drawn = {index: {draw(index, seed) for seed in range(60)} for index in range(len(pairs))}
    assert drawn.pop(4) == {None}
    for index, others in drawn.items():
        emotion = pairs[index].reply.current.emotion
        fitting = {i for i in (0, 1, 5, 6, 7) if pairs[i].reply.current.emotion != emotion}
        wanted = fitting if index not in (2, 3) else {0, 1, 2, 3, 5, 6, 7} - {index}
        assert others == wanted - {index}, index  # with the same halves where there are some, else with any
    assert pairs[0].reply.current.emotion == pairs[7].reply.current.emotion  # so the loop saw a pair that is left out


def test_a_draw_hangs_on_seed_and_pair_alone(pairs):
    first, second = ClipDraw(pairs), ClipDraw(pairs)
    order = [(7, 3), (0, 1), (0, 2), (7, 3)]
    assert [first(*asked) for asked in order] == [second(*asked) for asked in reversed(order)][::-1]
    assert len({first(0, seed) for seed in range(60)}) == 3


@pytest.mark.parametrize(("swap", "lone"), [("audio", {3, 4}), ("video", {2, 4})])
def test_who_lacks_the_half_that_is_swapped_takes_no_part(pairs, swap, lone):
    draw = ClipDraw(pairs, swap)
    assert {index for index in range(len(pairs)) if draw(index, 0) is None} == lone and draw.num_without() == len(lone)
    assert not {draw(index, seed) for index in (0, 1) for seed in range(60)} & lone


def test_users_whose_emotion_is_not_known_get_any_other_dialogues_clip(pairs):
    bare = [replace(p, reply=replace(p.reply, current=replace(p.reply.current, emotion=None))) for p in pairs]
    assert {ClipDraw(bare)(0, seed) for seed in range(60)} == {1, 5, 6, 7}


def test_of_one_dialogue_alone_there_is_no_other_clip(pairs):
    """However many replies it has; with one other dialogue that is rare, it is found all the same."""
    emotions = ("sad", "happy", "angry")
    own = [
        replace(pairs[0], reply=replace(pairs[0].reply, current=replace(pairs[0].reply.current, emotion=e)))
        for e in emotions
    ]
    assert ClipDraw(own).num_without() == 3
    crowd = own * 40 + [pairs[5]]
    assert {ClipDraw(crowd)(index, 0) for index in range(3)} <= {120}


# --- what is read ---


@pytest.mark.parametrize("swap", ["both", "audio", "video"])
def test_prompts_hold_the_other_clip_and_their_own_words(pairs, build, swap):
    """Pair 1's voice is shorter than others: its audio tokens are fewer, so prompts show whose voice is in them."""
    draw = ClipDraw(pairs, swap)
    seed = next(seed for seed in range(60) if draw(0, seed) == 1)
    batch = other_prompts(pairs, build, draw, [{"index": 0, "seed": seed}])
    assert batch["has_other"].tolist() == [True]
    own, other = build.read(pairs[0].reply), build.read(pairs[1].reply)
    audio, video = (own if swap == "video" else other).audio, (own if swap == "audio" else other).video
    wanted = build.processor.clips.batch([type(own)(audio, video)])
    for name, tensor in wanted.items():
        assert batch[name].equal(tensor), name
    length = int(batch["completion_mask"].logical_not().sum())
    assert batch["input_ids"][0, :length].tolist() == build.with_clip(pairs[0].reply, type(own)(audio, video)).input_ids
    said = build.processor.encode_reply(pairs[0].chosen, pairs[0].chosen_emotion)
    assert batch["input_ids"][0, length:].tolist() == said
    num_own = len(build(pairs[0].reply).input_ids)
    assert (length == num_own) == (swap == "video")


def test_a_pair_without_another_clip_gets_its_own_prompt(pairs, build):
    batch = other_prompts(pairs, build, ClipDraw(pairs), [{"index": 4, "seed": 0}])
    assert batch["has_other"].tolist() == [False]
    assert batch["input_ids"][0].tolist()[: len(build(pairs[4].reply).input_ids)] == build(pairs[4].reply).input_ids


def test_a_clip_that_does_not_fit_beside_the_words_is_passed_over(pairs, make_model, clip_cache):
    """Pair 1's own clip is the shortest: in a prompt just long enough for it and its words no other has room."""
    build = PromptBuilder(make_model()[1], clip_cache)
    alone = build.with_clip(replace(pairs[1].reply, history=()), build.read(pairs[1].reply))
    tight = PromptBuilder(make_model(max_prompt_tokens=len(alone.input_ids))[1], clip_cache)
    batch = other_prompts(pairs, tight, ClipDraw(pairs), [{"index": 1, "seed": 0}])
    assert batch["has_other"].tolist() == [False]
    assert batch["input_ids"][0].tolist()[: len(alone.input_ids)] == tight(pairs[1].reply).input_ids == alone.input_ids


def test_facts_come_beside_a_batch_and_are_taken_off_again(pairs, build):
    plain, rows = PairCollator(pairs, build), [{"index": i, "seed": i} for i in (0, 5)]
    told = TrainingPairCollator(plain, ClipDraw(pairs))(rows)
    inputs, facts, other = split_batch(told)
    assert inputs.keys() == plain(rows).keys() and all(inputs[k].equal(v) for k, v in plain(rows).items())
    assert facts.distances().tolist() == pytest.approx(PairFacts.of([0, 5], pairs).distances().tolist())
    assert set(other) == set(inputs) - {"prompt_lengths"} | {"has_other"}
    assert split_batch(plain(rows))[1:] == (None, None)
    unknown = replace(pairs[0], reply=replace(pairs[0].reply, emotion=None), rejected_emotion=None)
    facts = PairFacts.of([0], [unknown])
    assert (facts.chosen_emotions.tolist(), facts.distances().tolist()) == ([IGNORE], [0.0])


# --- how likely ---


def slow_logps(model, build, pair, clip):
    """Log-probability of a chosen reply with features of a clip in its prompt, out of plain logits."""
    prompt = build.with_clip(pair.reply, clip)
    reply = build.processor.encode_reply(pair.chosen, pair.chosen_emotion)
    ids = torch.tensor([prompt.input_ids + reply])
    labels = ids.clone()
    labels[:, : len(prompt.input_ids)] = IGNORE
    with torch.no_grad():
        logits = model(input_ids=ids, **build.processor.batch_context([prompt])).logits
    return sequence_logps(logits, labels)


def test_the_terms_are_those_of_plain_logits_one_reply_at_a_time(make_trainer, pairs, build):
    """Four pairs, of which one has no clip; the loss is the weighted sum of all four terms."""
    keys = {"conditional_weight": CONDITIONAL, "anchor_weight": ANCHOR, "anchor_margin": MARGIN, "emotion_margin": 0.2}
    trainer = make_trainer(**keys)
    shake_lora(trainer.model)
    rows = [{"index": index, "seed": 7} for index in (0, 3, 4, 6)]
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows)).item()
    draw, rewards = ClipDraw(pairs), {}
    for name, clip_of in (("own", lambda index: index), ("other", lambda index: draw(index, 7))):
        for row in rows:
            pair, source = pairs[row["index"]], clip_of(row["index"])
            clip = build.read(pairs[row["index"] if source is None else source].reply)
            policy = slow_logps(trainer.model, build, pair, clip)
            with trainer.model.disable_adapter():
                rewards.setdefault(name, []).append(BETA * (policy - slow_logps(trainer.model, build, pair, clip)))
    own, other = torch.cat(rewards["own"]), torch.cat(rewards["other"])
    found = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    takes_part = torch.tensor([True, True, False, True])
    assert found["terms/conditional"] == pytest.approx(conditional_loss(own, other, takes_part).item(), abs=1e-4)
    margins = (own - other)[takes_part]
    assert found["conditional/margins"] == pytest.approx(margins.mean().item(), abs=1e-4)
    assert found["conditional/accuracies"] == pytest.approx((margins > 0).float().mean().item())
    assert found["terms/anchor"] == pytest.approx(anchor_loss(own, MARGIN).item(), abs=1e-4)
    assert abs(own - other)[takes_part].min() > 1e-3  # clips matter here
    parts = found["terms/preference"] + found["terms/gold_nll"]
    wanted = parts + CONDITIONAL * found["terms/conditional"] + ANCHOR * found["terms/anchor"]
    assert loss == pytest.approx(wanted, abs=1e-5)


def test_without_the_term_nothing_more_is_read_and_with_it_each_clip_once(make_trainer, make_model):
    """Extractor and language model are counted; the first loss with the term is ln 2 a pair that takes part above."""
    counts, losses = {}, {}
    for weight in (0.0, 1.0):
        trainer = make_trainer(model=make_model()[0], conditional_weight=weight)
        batch = trainer.data_collator([{"index": index, "seed": 1} for index in (0, 1, 4, 5)])
        model, seen = trainer.model.get_base_model(), {"clips": 0, "words": 0}
        for name, part in (("clips", model.extractor), ("words", model.language_model)):
            part.register_forward_hook(lambda *_, n=name, s=seen: s.update({n: s[n] + 1}))
        losses[weight] = trainer.compute_loss(trainer.model, batch).item()
        counts[weight] = seen
    assert counts == {0.0: {"clips": 1, "words": 2}, 1.0: {"clips": 2, "words": 4}}
    assert losses[1.0] - losses[0.0] == pytest.approx(0.75 * torch.log(torch.tensor(2.0)).item(), abs=1e-5)


def test_training_with_all_terms_raises_the_gold_reply_under_its_own_clip(make_trainer):
    trainer = make_trainer(conditional_weight=2.0, anchor_weight=1.0, emotion_margin=0.5, max_steps=6)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "terms/conditional" in log]
    assert len(logs) == 6 and logs[-1]["terms/conditional"] < logs[0]["terms/conditional"]


# --- what pairs do not have ---


def refused(pairs, tmp_path, **changes):
    with pytest.raises(TermNeedError) as caught:
        require_for_terms(pairs, arguments(tmp_path, **changes), "pairs.jsonl")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_terms_that_need_what_pairs_do_not_have_are_refused(pairs, tmp_path):
    bare = [*pairs[:2], replace(pairs[2], reply=replace(pairs[2].reply, emotion=None), rejected_emotion=None)]
    assert refused(bare, tmp_path, emotion_margin=0.5).startswith(
        "pairs.jsonl: emotion_margin is 0.5, but 1 of 3 pairs do not say the emotions of both replies, the first that "
        "of dialogue 'd2', turn 3: leave emotion_margin out, or"
    )
    for some in (pairs[:1], pairs[4:5], [pairs[0], pairs[7]]):
        assert f"conditional_weight is 0.5, but of {len(some)} pairs none has a clip and another dialogue's" in refused(
            some, tmp_path, conditional_weight=0.5
        )
    assert "none has a clip with video and" in refused(
        [pairs[2], pairs[5]], tmp_path, conditional_weight=0.5, conditional_swap="video"
    )
    require_for_terms(bare, arguments(tmp_path, conditional_weight=0.5, anchor_weight=1.0))


def test_a_loss_of_sorted_batches_takes_the_whole_global_batch(pairs, tmp_path):
    message = refused(pairs, tmp_path, preference_loss="aot", gradient_accumulation_steps=2)
    assert message.startswith("preference_loss aot sorts the pairs of a whole global batch, which is cut into 2 pieces")
    require_for_terms(pairs, arguments(tmp_path, preference_loss="aot"))


def test_the_trainer_refuses_and_counts_by_itself(make_trainer, pairs, capsys):
    with pytest.raises(TermNeedError, match="train_dataset: conditional_weight is 1.0, but of 1 pairs none"):
        make_trainer(pairs[:1], conditional_weight=1.0)
    make_trainer(conditional_weight=1.0)
    assert "conditional term: 1 of 8 pairs have no other clip and take no part" in capsys.readouterr().out

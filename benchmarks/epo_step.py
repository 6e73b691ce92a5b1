"""EPO steps against stock TRL's way: same model, same pairs, same losses, ratios of times.

    python benchmarks/epo_step.py [--steps 8] [--pairs 4]

All runs go through `trl.DPOTrainer`. `stock` repeats each prompt, its memories and its clip for the rejected reply,
encodes clip and history anew for policy and reference, and scores every position, as TRL does with any model on a CPU.
`context once` encodes a pair's clip and history once for both replies and both models and scores labelled positions
only, `ours` reads each prompt once a pair besides. The losses are compared too, because a faster step with another loss
would be no win.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import TrainerCallback, set_seed

from launch import stage  # noqa: F401  (first: mends sys.path)
from compressor.curriculum import ScheduledDataset
from compressor.text import IGNORE
from epo.data.cache import ClipCache
from epo.data.corpora.builtin import BuiltinCorpus, rewrite_reply, write_builtin_corpus
from epo.data.dialogue import read_dialogues
from epo.data.replies import replies_of
from epo.model.clip_reader import ClipReader
from epo.model.modeling import CONTEXT_KEYS, EpoForConditionalGeneration
from epo.model.parts import build_compressor, build_extractor, load_llm, load_tokenizer
from epo.model.processing import EpoProcessor
from epo.model.token_scores import TokenScores, token_scores
from epo.preferences.pair import PreferencePair
from epo.prompts.marks import add_placeholders
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import lora_config
from epo.training.trainer import EpoTrainer

PARTS = Path(__file__).parents[1] / "recipes" / "quickstart" / "parts"


class StepTimes(TrainerCallback):
    """Records the seconds of each optimizer step and the losses logged."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._start = 0.0

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds[1:])

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


class StockTrainer(EpoTrainer):
    """Encodes clip and history in every forward pass, for each reply, of policy and of reference, as TRL would."""

    def _encode_context_once(self, inputs: dict[str, Any]) -> dict[str, Any]:
        repeated = {key: torch.cat([inputs[key]] * 2) for key in CONTEXT_KEYS}
        return {key: value for key, value in inputs.items() if key != "prompt_lengths"} | repeated


class StockModel(EpoForConditionalGeneration):
    """Scores all positions and keeps those that have a label."""

    def _score_labels(self, input_ids: Any, attention_mask: Any, labels: Any, *rest: Any) -> TokenScores:
        embeds = self.embed_prompts(input_ids, rest[-1])
        output = self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False)
        everywhere = torch.ones_like(labels[:, 1:])
        scores = token_scores(
            output.logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].clamp(min=0).flatten(), everywhere
        )
        return TokenScores(*(values.masked_fill(labels[:, 1:] == IGNORE, 0) for values in scores.to_tuple()))


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        pairs = make_pairs(Path(folder), options.pairs * options.steps)
        stock = run(Path(folder), pairs, options, StockTrainer, StockModel)
        once = run(Path(folder), pairs, options, EpoTrainer, shares_prompts=False)
        ours = run(Path(folder), pairs, options, EpoTrainer)
    gap = max(abs(a - b) for run_ in (once, ours) for a, b in zip(run_.losses, stock.losses, strict=True))
    report = {
        "seconds_a_step": {"stock": stock.median_s, "context once": once.median_s, "ours": ours.median_s},
        "speedup": {"context once": stock.median_s / once.median_s, "ours": stock.median_s / ours.median_s},
        "largest_loss_gap": gap,
        "losses": ours.losses,
    }
    print(json.dumps(report, indent=2))
    sys.exit(0 if gap < 1e-3 else 1)


def parse() -> SimpleNamespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps of each run; the first is not counted")
    parser.add_argument("--pairs", type=int, default=4, help="pairs a step")
    return SimpleNamespace(**vars(parser.parse_args()))


def make_pairs(folder: Path, count: int) -> list[PreferencePair]:
    write_builtin_corpus(
        folder, BuiltinCorpus(num_train=count, num_train_with_clips=count, num_validation=0, num_test=0)
    )
    examples = replies_of(read_dialogues(folder / "dialogues.jsonl"), "last", require_clip=True)
    rng = random.Random(0)
    counter = {example.dialogue_id: "happy" if example.emotion != "happy" else "sad" for example in examples}
    return [
        PreferencePair(e, rewrite_reply(e.text, counter[e.dialogue_id], rng), counter[e.dialogue_id]) for e in examples
    ]


def run(
    folder: Path,
    pairs: list[PreferencePair],
    options: SimpleNamespace,
    kind: type[EpoTrainer],
    model_kind: type[EpoForConditionalGeneration] = EpoForConditionalGeneration,
    shares_prompts: bool = True,
) -> StepTimes:
    """Train a fresh model, the same in every run, and return its step times."""
    set_seed(0)
    model, processor = make_model(pairs, model_kind)
    build = PromptBuilder(processor, ClipCache(folder / "cache"))
    for pair in pairs:
        build(pair.reply)  # decode beforehand: both runs read the cache
    times = StepTimes()
    args = EpoArguments(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=options.pairs,
        max_steps=options.steps,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = kind(
        model=model,
        args=args,
        train_dataset=ScheduledDataset(len(pairs), options.pairs * options.steps, seed=0),
        data_collator=PairCollator(pairs, build),
        processing_class=processor,
        callbacks=[times],
        peft_config=lora_config(model, 16, 32, 0.0),
    )
    if not shares_prompts:
        model.shares_prompts = False
    trainer.train()
    return times


def make_model(
    pairs: list[PreferencePair], kind: type[EpoForConditionalGeneration]
) -> tuple[EpoForConditionalGeneration, EpoProcessor]:
    texts = [turn.text for pair in pairs for turn in (*pair.reply.history, pair.reply.current)]
    llm, tokenizer = load_llm(str(PARTS / "llm.json"), "float32"), load_tokenizer(str(PARTS / "llm.json"), texts)
    extractor, feature_extractor, image_processor = build_extractor(
        str(PARTS / "whisper.json"), str(PARTS / "siglip.json"), {"augmentation": 0.0, "dropout": 0.0}
    )
    compressor = build_compressor(str(PARTS / "mamba2.json"), 2, llm)
    reader = ClipReader(feature_extractor, image_processor, 4.0, 4.0, 8)
    model = kind.from_parts(llm, extractor, compressor, tokenizer, add_placeholders(tokenizer))
    processor = EpoProcessor(
        reader.feature_extractor,
        reader.image_processor,
        tokenizer,
        load_tokenizer(str(PARTS / "mamba2.json"), texts),
        history_vocab_size=compressor.vocab_size,
        max_audio_seconds=reader.max_audio_seconds,
    )
    return model, processor


if __name__ == "__main__":
    main()

"""The architecture matrix: what each family of language models does here, as docs/families.md tells it.

Each row is tried on a tiny model of the family: joined with extractor and compressor, it must score, train, generate
and come back from its folder as the stock model does, or be refused in one line that names the family.
"""

import os
from pathlib import Path

import pytest
import torch
from families import FAMILIES, VISION
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from compressor.curriculum import ScheduledDataset
from compressor.language_model import LanguageModelError, text_part
from compressor.text import IGNORE
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.saving import save_weights
from epo.model.shared_prompt import prove_packing, prove_sharing
from epo.model.token_scores import sequence_logps
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import (
    finish_lora,
    inject_lora,
    language_model_linears,
    left_out,
    lora_config,
    transposed_layers,
)
from epo.training.objective import implicit_reward
from epo.training.terms.preference import preference_loss
from epo.training.trainer import EpoTrainer

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
COLUMNS = ("logits", "shared prompts", "packed rows", "generation", "saved and reloaded", "EPO step", "LoRA")
MULTIMODAL = "gemma3 with images (its text part)"
pytestmark = pytest.mark.slow


def make_family(name: str):
    """Build a language model with weights ten times as large as usual, or all replies would look alike."""
    family, sizes = FAMILIES[name]
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
    with torch.no_grad():
        for module in llm.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(5)
                if module.bias is not None:  # a bias that is lost must be seen
                    module.bias.normal_()
    return llm.eval()


def make_multimodal_text():
    """Take the language model out of a Gemma 3 that also sees; it must score text as the whole does."""
    _, sizes = FAMILIES["gemma3"]
    config = AutoConfig.for_model("gemma3", text_config=dict(sizes), vision_config=VISION, mm_tokens_per_image=4)
    torch.manual_seed(0)
    whole = AutoModelForImageTextToText.from_config(config).eval()
    llm, ids = text_part(whole), torch.arange(2, 40).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(llm(input_ids=ids).logits, whole(input_ids=ids).logits)
    return llm


class Trial:
    """One family on the tiny corpus; each method gives a cell of the table or fails."""

    def __init__(self, model, build, pairs, examples, folder):
        self.model, self.build, self.pairs, self.examples, self.folder = model, build, pairs, examples, folder
        self.prompts = [build(example) for example in examples[:3]]

    def logits(self, stock):
        """Text alone, two rows of unequal length: what the stock model said before it was joined."""
        with torch.no_grad():
            ours = self.model(**text_batch()).logits
        real = text_batch()["attention_mask"].bool()
        torch.testing.assert_close(ours[real], stock[real], atol=2e-4, rtol=1e-4)
        return "as stock"

    def shared_prompts(self):
        """Log-probabilities of replies after one common prompt are those after a prompt each."""
        batch = PairCollator(self.pairs, self.build)([{"index": i} for i in range(4)])
        reason = prove_sharing(self.model, batch)
        labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)
        with torch.no_grad():
            ours = self.model(**batch, labels=labels, fused_lm_head=True).log_probs.sum(dim=1)
        torch.testing.assert_close(ours, self.one_by_one(self.model, batch, labels), atol=2e-3, rtol=1e-4)
        return "one row a pair" if reason is None else f"two rows: {reason}"

    def packed_rows(self):
        """Four pairs in one row score as each alone; a model that reads each prompt twice is not asked."""
        if not self.model.shares_prompts:
            return "no"
        batch = PairCollator(self.pairs, self.build)([{"index": i} for i in range(4)])
        reason = prove_packing(self.model, batch, 1000)
        labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)
        with torch.no_grad():
            ours = self.model(**batch, labels=labels, fused_lm_head=True).log_probs.sum(dim=1)
        torch.testing.assert_close(ours, self.one_by_one(self.model, batch, labels), atol=2e-3, rtol=1e-4)
        return "several pairs a row" if reason is None else f"no: {reason}"

    def one_by_one(self, model, batch, labels):
        """Each reply alone after its own prompt, no padding, scored from plain logits."""
        count = len(batch["prompt_lengths"])
        found = []
        for row in range(2 * count):
            real = batch["attention_mask"][row].bool()
            context = self.build.processor.batch_context([self.build(self.pairs[row % count].reply)])
            with torch.no_grad():
                logits = model(input_ids=batch["input_ids"][row, real].unsqueeze(0), **context).logits
            found.append(sequence_logps(logits, labels[row, real].unsqueeze(0)))
        return torch.cat(found)

    def generation(self, model=None):
        """Greedy replies in a batch against the likeliest token of the whole row read anew at every step."""
        model, count = self.model if model is None else model, 10
        ids, mask = left_padded([prompt.input_ids for prompt in self.prompts])
        context = self.build.processor.batch_context(self.prompts)
        settings = {"do_sample": False, "max_new_tokens": count, "eos_token_id": None, "pad_token_id": 0}
        batch = model.generate(input_ids=ids, attention_mask=mask, **context, **settings)[:, ids.size(1) :]
        for row, prompt in enumerate(self.prompts):
            said = torch.tensor([prompt.input_ids])
            alone = self.build.processor.batch_context([prompt])
            for _ in range(count):
                with torch.no_grad():
                    best = model(input_ids=said, **alone).logits[:, -1:].argmax(dim=-1)
                said = torch.cat([said, best], dim=1)
            assert batch[row].tolist() == said[0, len(prompt.input_ids) :].tolist(), row
        return "as step by step"

    def saved_and_reloaded(self):
        """One step of LoRA and of the parts around the language model, merged, saved: the folder says the same."""
        model, prompt = self.model, self.prompts[0]
        batch = {"input_ids": torch.tensor([prompt.input_ids]), **self.build.processor.batch_context([prompt])}
        inject_lora(model, lora_config(model, 4, 8, 0.0))
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
        model.train()
        for _ in range(2):
            model(**batch).logits.log_softmax(dim=-1)[..., 7].mean().neg().backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            trained = model(**batch).logits
        merged, _ = finish_lora(model.state_dict(), 4, 8, in_float32=True, transposed=transposed_layers(model))
        save_weights(model.config, merged, self.folder)
        self.model = EpoForConditionalGeneration.from_pretrained(self.folder).eval()
        with torch.no_grad():
            torch.testing.assert_close(self.model(**batch).logits, trained, atol=1e-3, rtol=1e-3)
        self.generation()
        return "the same"

    def epo_step(self):
        """A step's loss is worked out from each reply read alone, by policy and by reference."""
        trainer = make_trainer(self.model, self.pairs, self.build, self.folder)
        policy = trainer.model.eval()
        torch.manual_seed(5)
        for name, parameter in policy.named_parameters():
            if ".lora_B." in name:
                parameter.data.normal_(std=0.1)
        batch = PairCollator(self.pairs, self.build)([{"index": i} for i in range(4)])
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORE)
        loss = trainer.compute_loss(policy, dict(batch)).item()
        with_lora = self.one_by_one(policy, batch, labels)
        with policy.disable_adapter():
            without = self.one_by_one(policy, batch, labels)
        assert loss == pytest.approx(worked_out(with_lora, without, labels), abs=2e-3)
        return "own arithmetic"

    def lora(self):
        """How many matrices LoRA adapts, and how many it leaves out."""
        adapted, rest = len(language_model_linears(self.model)), len(left_out(self.model))
        return f"{adapted} adapted" + (f", {rest} left out" if rest else "")


def worked_out(policy, reference, labels, beta=0.3, alpha=0.7):
    """EPO from the log-probabilities of chosen, then of rejected replies."""
    rewards = [implicit_reward(p, r, beta) for p, r in zip(policy.chunk(2), reference.chunk(2), strict=True)]
    num_tokens = (labels.chunk(2)[0] != IGNORE).sum()
    return (preference_loss(rewards[0] - rewards[1]) - alpha * policy.chunk(2)[0].sum() / num_tokens).item()


def make_trainer(model, pairs, build, folder):
    """The trainer as `launch/epo.py` makes it."""
    settings = {
        "max_steps": 1, "per_device_train_batch_size": 4, "report_to": "none", "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "disable_tqdm": True, "beta": 0.3, "alpha": 0.7,
    }  # fmt: skip
    return EpoTrainer(
        model=model, args=EpoArguments(output_dir=str(folder), **settings),
        train_dataset=ScheduledDataset(len(pairs), 4, seed=0), data_collator=PairCollator(pairs, build),
        processing_class=build.processor, peft_config=lora_config(model, 4, 8, 0.0),
    )  # fmt: skip


def text_batch():
    ids = torch.randint(5, 300, (2, 40), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 29:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def left_padded(rows):
    size = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (size - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (size - len(row)) + [1] * len(row) for row in rows])


@pytest.fixture(scope="module")
def table():
    """Cells found by the tests of this module, by family."""
    return {}


@pytest.mark.parametrize("name", [*FAMILIES, MULTIMODAL])
def test_a_family_does_what_its_stock_model_does(name, table, make_model, clip_cache, pairs, examples, tmp_path):
    llm = make_multimodal_text() if name == MULTIMODAL else make_family(name)
    with torch.no_grad():
        stock = llm(**text_batch()).logits
    try:
        model, processor = make_model(llm)
    except LanguageModelError as error:
        assert FAMILIES[name][0] in str(error) and "\n" not in str(error)
        table[name] = [f"refused: {error}"]
        return
    trial = Trial(model, PromptBuilder(processor, clip_cache), pairs, examples, tmp_path)
    lora = trial.lora()
    cells = [trial.logits(stock), trial.shared_prompts(), trial.packed_rows()]
    cells += [trial.generation(), trial.saved_and_reloaded()]
    table[name] = [*cells, trial.epo_step(), lora]


def test_the_page_shows_what_was_found(table):
    """`EPO_WRITE_DOCS=1` writes it anew."""
    if len(table) < len(FAMILIES) + 1:
        pytest.skip("the table is whole only where every family was tried")
    lines = ["| family | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, cells in table.items():
        cells = cells if len(cells) > 1 else cells + [""] * (len(COLUMNS) - 1)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    start, end = "<!-- written by tests/families -->\n", "\n<!-- end -->"
    page = PAGE.read_text(encoding="utf-8")
    wanted = page[: page.index(start) + len(start)] + "\n".join(lines) + page[page.index(end) :]
    if os.environ.get("EPO_WRITE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert page == wanted

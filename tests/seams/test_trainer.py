"""What transformers' Trainer does around the methods we override, and leaves behind in a folder."""

import contextlib
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from compressor.curriculum import ScheduledDataset
from compressor.scheduled_trainer import ScheduledTrainer
from compressor.seams import silence_renames


class Line(nn.Module):
    """y = w x, to be pulled to 0."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))


class LineTrainer(ScheduledTrainer):
    """Minimises the mean of (w x)^2 and notes what it is asked."""

    def __init__(self, *args, **kwargs):
        self.batches, self.optimizers = [], []
        super().__init__(*args, **kwargs)

    def loss_terms(self, model, inputs):
        self.batches.append(inputs["x"].tolist())
        loss = (model.w * inputs["x"]).square().mean()
        return {"loss": loss, "half": loss / 2}

    def create_optimizer(self, model=None):
        self.optimizer = torch.optim.SGD([{"params": [self.model.w], "lr": 0.1}])
        self.optimizers.append(self.optimizer)
        return self.optimizer


@pytest.fixture
def run(tmp_path):
    """Two steps of two batches of two: each step sees 0, 1, 2 and 3 once."""
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        learning_rate=9.0, lr_scheduler_type="constant", max_grad_norm=0.0, logging_steps=1, save_steps=2,
        per_device_eval_batch_size=4, report_to="none", use_cpu=True, remove_unused_columns=False, disable_tqdm=True,
    )  # fmt: skip
    return LineTrainer(
        model=Line(), args=args, train_dataset=ScheduledDataset(4, 8, seed=0),
        data_collator=lambda rows: {"x": torch.tensor([float(row["index"]) for row in rows])},
    )  # fmt: skip


class Resting(TrainerCallback):
    """Lets a part of the model leave training mode after the first step."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 1:
            model.part.eval()


@pytest.mark.seam("training_mode")
def test_a_batch_enters_training_mode_where_some_module_left_it(run, monkeypatch):
    """So it is left out where none did: of four batches here before the first and the third, and all are trained on."""
    walks, seen = [], []
    run.model.part = nn.Dropout()
    monkeypatch.setattr(Line, "train", lambda model, mode=True: (walks.append(mode), nn.Module.train(model, mode))[1])
    plain = run.loss_terms
    run.loss_terms = lambda model, inputs: (seen.append((len(walks), model.part.training)), plain(model, inputs))[1]
    run.add_callback(Resting())
    run.train()
    (first, *_), later = seen[0], seen[2][0]
    assert seen == [(first, True), (first, True), (first + 1, True), (first + 1, True)]
    assert later == first + 1 and "train" not in vars(run.model)


@pytest.mark.seam("compute_loss")
def test_each_batch_is_asked_for_its_loss_once(run):
    run.train()
    assert len(run.batches) == 4


@pytest.mark.seam("loss_kwargs")
def test_accumulated_batches_are_averaged(run):
    """The mean of x^2 over 0, 1, 2, 3 is 3.5: w becomes w - 0.1 x 2 x 3.5 w = 0.3 w, twice."""
    run.train()
    assert run.model.w.item() == pytest.approx(2.0 * 0.3 * 0.3, rel=1e-5)


@pytest.mark.seam("train_sampler")
def test_rows_come_in_the_order_of_the_schedule(run):
    run.train()
    order = [float(ScheduledDataset(4, 8, seed=0)[position]["index"]) for position in range(8)]
    assert [x for batch in run.batches for x in batch] == order


@pytest.mark.seam("log")
def test_terms_we_add_stand_beside_the_loss(run):
    run.train()
    steps = [log for log in run.state.log_history if "half" in log]
    assert [log["step"] for log in steps] == [1, 2]
    assert all(log["half"] == pytest.approx(log["loss"] / 2, rel=1e-3) for log in steps)


@pytest.mark.seam("prediction_step")
def test_evaluation_does_with_the_loss_alone(run):
    assert run.evaluate(ScheduledDataset(4, 4, seed=0))["eval_loss"] == pytest.approx(4 * 3.5)


@pytest.mark.seam("grad_norm")
def test_the_norm_is_asked_for_before_each_step_though_nothing_is_clipped(run):
    asked, steps = [], []
    norm = run._get_grad_norm
    run._get_grad_norm = lambda model, grad_norm=None: asked.append(len(steps)) or norm(model, grad_norm=grad_norm)

    class Count(TrainerCallback):
        def on_optimizer_step(self, *args, **kwargs):
            steps.append(1)

    run.add_callback(Count())
    run.train()
    assert asked == [0, 1]


@pytest.mark.seam("batch_samples")
def test_what_is_counted_in_a_steps_batches_reaches_the_loss(run):
    seen = []
    get, loss = run.get_batch_samples, run.compute_loss
    run.get_batch_samples = lambda iterator, num_batches, device: (get(iterator, num_batches, device)[0], num_batches)
    run.compute_loss = lambda *args, **kwargs: seen.append(kwargs["num_items_in_batch"]) or loss(*args, **kwargs)
    run.train()
    assert seen == [2, 2, 2, 2]


@pytest.mark.seam("create_optimizer")
def test_the_optimizer_is_ours_and_made_once(run):
    """Its rate of 0.1 is kept, not the 9.0 of the arguments."""
    run.train()
    assert len(run.optimizers) == 1 and run.optimizers[0].param_groups[0]["lr"] == 0.1


@pytest.mark.seam("checkpoint_folder")
def test_all_of_a_checkpoint_goes_where_the_trainer_says(run, tmp_path):
    """With a folder of its own a save touches no other, whatever the limit."""
    run.train()
    run.args.save_total_limit = 1
    run._get_output_dir = lambda trial: str(tmp_path / "aside")
    Trainer._save_checkpoint(run, run.model, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aside", "checkpoint-2"]
    assert {"trainer_state.json", "training_args.bin"} <= {path.name for path in (tmp_path / "aside").glob("*/*")}


@pytest.mark.seam("operations")
def test_operations_are_counted_as_transformers_does(run):
    """Six for each of 5 x 5 weights and each of a batch's numbers."""
    run.model = nn.Linear(5, 5, bias=False)
    run.model.num_parameters = lambda exclude_embeddings: 25
    for rows in (3, 2):
        inputs = {"input_ids": torch.zeros(rows, 7)}
        assert run.floating_point_ops(inputs) == Trainer.floating_point_ops(run, inputs) == 6 * 25 * rows * 7
    assert run.floating_point_ops({"x": torch.zeros(2)}) == 0


@pytest.mark.seam("save_and_end_of_step")
def test_a_step_ends_before_it_is_saved(run, monkeypatch):
    called = []
    monkeypatch.setattr(run, "_save_checkpoint", lambda model, trial: called.append(("saved", run.state.global_step)))

    class Note(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            called.append(("ended", state.global_step))

    run.add_callback(Note())
    run.train(None, None, None)
    assert called == [("ended", 1), ("ended", 2), ("saved", 2)]


@pytest.mark.seam("checkpoint_states")
def test_states_are_saved_and_loaded_by_four_methods(run, tmp_path):
    asked = []
    for name in ("optimizer_and_scheduler", "rng_state"):
        for way in ("_save_", "_load_"):
            setattr(run, way + name, lambda folder, what=way + name: asked.append((what, str(folder)[-12:])))
    run.train()
    run.args.max_steps = 3
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    kinds = ["_load_optimizer_and_scheduler", "_load_rng_state", "_save_optimizer_and_scheduler", "_save_rng_state"]
    assert sorted({what for what, folder in asked if folder == "checkpoint-2"}) == kinds


@pytest.mark.seam("sharded_checkpoint")
def test_weights_are_saved_and_loaded_by_two_methods(run, tmp_path, monkeypatch):
    asked = []

    def save(self, output_dir, _internal_call):
        Path(output_dir).mkdir()
        asked.append(output_dir[-12:])

    monkeypatch.setattr(Trainer, "save_model", save)
    run._load_from_checkpoint = lambda folder: asked.append(f"from {folder[-12:]}")
    run.train()
    run.args.max_steps = 3
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert asked[:2] == ["checkpoint-2", "from checkpoint-2"]


@pytest.mark.seam("accelerator_made")
def test_the_accelerator_is_made_by_one_method(run):
    before = run.accelerator
    run.create_accelerator_and_postprocess()
    assert run.accelerator is not before and run.is_fsdp_enabled is False


@pytest.mark.seam("sync_each_batch")
def test_gradients_are_reduced_after_each_micro_batch_where_the_accelerator_says_so(run, monkeypatch):
    entered = []
    monkeypatch.setattr(
        run.accelerator, "no_sync", lambda model: entered.append(model) or contextlib.nullcontext(), raising=True
    )
    run.train()
    assert len(entered) == 2  # the first of two micro-batches of each step
    monkeypatch.setitem(run.accelerator.gradient_state.plugin_kwargs, "sync_each_batch", True)
    run.train()
    assert len(entered) == 2


@pytest.mark.seam("generating_under_fsdp")
@pytest.mark.parametrize("is_marked", [True, False])
def test_generate_waits_for_other_ranks_where_a_model_is_marked(model_and_processor, monkeypatch, is_marked):
    llm, asked = model_and_processor[0].language_model, []
    monkeypatch.setattr(torch.distributed, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor, op=None: asked.append(tensor))
    llm._is_fsdp_managed_module = is_marked
    llm.generate(torch.tensor([[5, 6]]), max_new_tokens=2, min_new_tokens=2, do_sample=False)
    assert bool(asked) is is_marked


@pytest.mark.seam("training_args_bin")
def test_a_saved_model_comes_with_its_arguments_as_a_pickle(run, tmp_path):
    run.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "training_args.bin").is_file()


@pytest.mark.seam("checkpointing_name")
def test_gradient_checkpointing_works_by_its_old_name_without_a_word(make_epo_trainer):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        silence_renames()
        trainer = make_epo_trainer(gradient_checkpointing=True)
        layer, read = trainer.model.get_base_model().language_model.model.layers[0], []
        layer.input_layernorm.register_forward_hook(lambda *_: read.append(torch.is_grad_enabled()))
        trainer.train()
    assert read.count(True) == 2  # in the policy's forward, and once more in its backward

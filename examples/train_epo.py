"""Train EPO on a model and its pairs: `python examples/train_epo.py MODEL DIALOGUES PAIRS OUT`.

After `make quickstart`: MODEL runs/quickstart/sft, DIALOGUES runs/quickstart/corpus/dialogues.jsonl, PAIRS
runs/quickstart/pairs/pairs.jsonl. On several ranks: `accelerate launch examples/train_epo.py ...`.
"""

import sys

import torch

import epo

folder, dialogues, pairs, out = sys.argv[1:5]
on_gpu = torch.cuda.is_available()
model, processor = epo.load_model(folder)
learnt = [pair for pair in epo.read_pairs(pairs, epo.read_dialogues(dialogues)) if pair.reply.split == "train"]
trainer = epo.EpoTrainer(
    model,
    args=epo.EpoArguments(
        output_dir=out, beta=0.2, alpha=0.4, learning_rate=1e-3, max_steps=10, per_device_train_batch_size=4,
        logging_steps=5, bf16=False, gradient_checkpointing=False, use_cpu=not on_gpu, report_to="none",
    ),
    train_dataset=learnt,
    processing_class=processor,
)  # fmt: skip
trainer.train()
trainer.save_model(out)  # the LoRA; epo.load_adapter puts it on the model again

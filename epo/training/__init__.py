"""Training: SFT and EPO, their batches, arguments, objectives and LoRA."""

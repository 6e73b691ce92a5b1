"""What a language model held in few bits takes, and what training a LoRA beside it takes at its fullest.

    python benchmarks/quantized_memory.py --layers 16 --width 1024 --dtype float32

Writes one random model of this shape, then loads it in processes of their own, as it is and in few bits, each time
followed by two training steps of a LoRA on random tokens. Figures are of the process, above what Python and the
libraries take. CPU alone, Linux.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> None:
    """Measure each way to hold the model, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=128, help="length of the row that is trained on")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "QUANTIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.dtype, args.tokens)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(folder, args.layers, args.width, args.dtype)
        for quantize in ("none", "8bit", "4bit"):
            command = [sys.executable, __file__, "--one", folder, quantize, "--dtype", args.dtype]
            command += ["--tokens", str(args.tokens)]
            # Else glibc keeps what each pass lets go of, and nothing could be told from the process.
            environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            rows.append({"quantize": quantize} | json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1])
    if args.json:
        Path(args.json).write_text(json.dumps({"rows": rows} | vars(args), indent=1), encoding="utf-8")


def write_model(folder: str, layers: int, width: int, dtype: str) -> None:
    """Save a random Llama of some layers and width, with a small vocabulary."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama", vocab_size=8192, hidden_size=width, intermediate_size=11 * width // 4, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, tie_word_embeddings=True,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).save_pretrained(folder)


def measure(folder: str, quantize: Any, dtype: str, tokens: int) -> dict[str, float]:
    """Load a model and train a LoRA for two steps; return MiB of the process, and CPU seconds a step."""
    import time

    import torch
    from peft import LoraConfig, get_peft_model

    from compressor.precision import keep_trained_in_float32
    from epo.model.parts import load_llm

    if quantize == "4bit":
        import bitsandbytes  # noqa: F401  # what it takes itself is no part of the model
    torch.manual_seed(0)
    before = _resident("VmRSS")
    llm = load_llm(folder, dtype, quantize)
    at_load = _resident("VmHWM") - before
    held = _resident("VmRSS") - before
    policy = get_peft_model(llm, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    keep_trained_in_float32(policy)
    policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.enable_input_require_grads()
    policy.train()
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad])
    ids = torch.randint(8192, (1, tokens))
    Path("/proc/self/clear_refs").write_text("5")  # the fullest is told anew from here on
    start = time.process_time()
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = policy(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {
        "loading_mib": at_load,
        "held_mib": held,
        "training_mib": _resident("VmHWM") - before,
        "cpu_seconds_a_step": round((time.process_time() - start) / 2, 2),
        "loss": round(loss.item(), 4),
    }


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024, 1)


if __name__ == "__main__":
    main()

"""Run in a fresh process: train by a stage's own script and print how much memory grew, and what was estimated.

    measured_stage.py KIND FOLDER

A tiny model goes first, so that what Python and torch load and start is there before the one that is measured.
"""

import gc
import json
import sys
from pathlib import Path

import numpy as np

WORDS = "we walked along the lake for hours and then it began to rain so we ran home together laughing".split()
TINY = {"hidden": 32, "layers": 1, "vocab": 600}
KINDS = {
    "text": {"hidden": 320, "layers": 6, "vocab": 3000},
    "whole": {"hidden": 320, "layers": 5, "vocab": 3000},
    "pairs": {"hidden": 448, "layers": 6, "vocab": 3000},
    "pairs_all": {"hidden": 320, "layers": 6, "vocab": 3000},
    "compressor": {"hidden": 256, "layers": 4, "vocab": 3000},
}


def write_corpus(folder: Path) -> None:
    import soundfile

    rng = np.random.default_rng(0)
    soundfile.write(folder / "voice.wav", 0.3 * np.sin(np.arange(3 * 16000) / 9), 16000)
    lines, pairs = [], []
    for number in range(8):
        said = [" ".join(rng.choice(WORDS, 24)) for _ in range(8)]
        turns = [{"speaker": ("user", "assistant")[i % 2], "text": text} for i, text in enumerate(said)]
        turns[-2] |= {"emotion": "sad", "clip": {"audio": "voice.wav"}}
        turns[-1] |= {"emotion": "sad"}
        lines.append({"id": f"d{number}", "split": "train", "turns": turns})
        wrong = " ".join(rng.choice(WORDS, 24))
        pairs.append(
            {"dialogue_id": f"d{number}", "turn": 7, "chosen": said[7], "chosen_emotion": "sad"}
            | {"rejected": wrong, "rejected_emotion": "angry", "source": "test"}
        )
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))


def write_parts(folder: Path, size: dict[str, int]) -> None:
    """Write configurations, and parts with weights of chance."""
    from epo.data.dialogue import read_dialogues
    from epo.model.clip_reader import ClipReader
    from epo.model.loading import join_parts
    from epo.model.parts import build_compressor, build_extractor, load_llm, load_tokenizer

    hidden, heads = size["hidden"], size["hidden"] // 32
    text = {"model_type": "qwen3", "vocab_size": size["vocab"], "hidden_size": hidden, "intermediate_size": 3 * hidden}
    text |= {"num_hidden_layers": size["layers"], "num_attention_heads": heads, "num_key_value_heads": heads}
    text |= {"head_dim": 32, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    mamba = {"model_type": "mamba2", "vocab_size": 600, "hidden_size": hidden, "num_hidden_layers": 2, "expand": 2}
    mamba |= {"state_size": 32, "num_heads": 2 * hidden // 32, "head_dim": 32, "n_groups": 1, "chunk_size": 64}
    audio = {"model_type": "whisper", "num_mel_bins": 80, "d_model": hidden, "encoder_layers": 2}
    audio |= {"encoder_attention_heads": heads, "encoder_ffn_dim": 2 * hidden, "dropout": 0.0}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "vision_use_head": False}
    for name, config in {"llm": text, "mamba2": mamba, "whisper": audio, "siglip": vision}.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    llm_file = str(folder / "llm.json")
    texts = [turn.text for dialogue in read_dialogues(folder.parent / "dialogues.jsonl") for turn in dialogue.turns]
    tokenizer = load_tokenizer(llm_file, texts)
    llm = load_llm(llm_file, "float32")
    llm.save_pretrained(folder / "lm")
    tokenizer.save_pretrained(folder / "lm")
    extractor, ears, eyes = build_extractor(str(folder / "whisper.json"), str(folder / "siglip.json"), {})
    extractor.save_pretrained(folder / "extractor")
    ClipReader(ears, eyes, 30.0, 4.0, 8).save(folder / "extractor")
    compressor = build_compressor(str(folder / "mamba2.json"), 2, llm, "")
    compressor.save_pretrained(folder / "compressor")
    load_tokenizer(str(folder / "mamba2.json"), texts).save_pretrained(folder / "compressor")
    model, processor = join_parts(*(str(folder / name) for name in ("lm", "extractor", "compressor")))
    model.save_pretrained(folder / "sft")
    processor.save_pretrained(folder / "sft")


def flags(kind: str, folder: Path) -> tuple[str, list[str]]:
    """The script of a case and its command line."""
    said = {"data": folder.parent / "dialogues.jsonl", "output_dir": folder / f"run_{kind}", "max_steps": 2}
    said |= {"per_device_train_batch_size": 4, "global_batch_size": 4, "save_strategy": "no", "use_cpu": True}
    said |= {"bf16": False, "gradient_checkpointing": False, "disable_tqdm": True}
    if kind == "text":
        said |= {"input": "text", "llm": folder / "llm.json", "curriculum": False}
        return "sft", [word for key, value in said.items() for word in (f"--{key}", str(value))]
    if kind == "whole":
        said |= {"llm": folder / "lm", "extractor": folder / "extractor", "compressor": folder / "compressor"}
        return "sft", [word for key, value in said.items() for word in (f"--{key}", str(value))]
    if kind == "compressor":
        said |= {"llm": folder / "lm", "backbone": folder / "mamba2.json", "distillation_weight": 1.0}
        said |= {"single_turns": 0.0, "short": 0.0, "medium": 0.0}
        return "compressor", [word for key, value in said.items() for word in (f"--{key}", str(value))]
    said |= {"model": folder / "sft", "pairs": folder.parent / "pairs.jsonl"}
    said |= {"tune": "all", "reference_cache": folder / "reference"} if kind == "pairs_all" else {}
    return "epo", [word for key, value in said.items() for word in (f"--{key}", str(value))]


def memory_kib(name: str) -> int:
    rows = Path("/proc/self/status").read_text().splitlines()
    return int(next(row.split()[1] for row in rows if row.startswith(f"{name}:")))


def train(script: str, argv: list[str]) -> None:
    import importlib

    sys.argv = [f"launch/{script}.py", *argv]
    importlib.import_module(f"launch.{script}").run()


def main(kind: str, folder: Path) -> None:
    write_corpus(folder)
    for name, size in {"tiny": TINY, "measured": KINDS[kind]}.items():
        (folder / name).mkdir()
        write_parts(folder / name, size)
    train(*flags(kind, folder / "tiny"))
    gc.collect()
    before = memory_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    train(*flags(kind, folder / "measured"))
    grown = memory_kib("VmHWM") - before
    from launch.checkup.checkup import examine
    from launch.checkup.planned_stages import plan_stage

    script, argv = flags(kind, folder / "measured")
    found = examine(plan_stage("", argv, script, None))
    row = {
        "problems": found.problems,
        "base": before * 1024,
        "grown": grown * 1024,
        "estimate": found.memory and found.memory.peak,
    }
    row["sizes"] = str(found.lengths)
    row["held"] = str(found.memory)
    print("RESULT " + json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

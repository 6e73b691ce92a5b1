"""Compress a talk turn by turn, in constant time and space: `python examples/stream_memories.py MODEL DIALOGUES`."""

import sys
import time

import epo
from compressor.data import encode_turn

model, processor = epo.load_model(sys.argv[1])
stream = epo.MemoryStream(model.compressor.eval())
dialogue = next(iter(epo.read_dialogues(sys.argv[2])))
for turn in dialogue.turns:
    line = f"{turn.speaker}: {turn.text}"
    ids = encode_turn(processor.history_tokenizer, line, processor.history_vocab_size, processor.num_memory_tokens)
    began = time.perf_counter()
    memory = stream.append(ids)
    seconds = time.perf_counter() - began
    print(f"{seconds * 1e3:6.1f} ms  {len(ids):4d} ids -> {tuple(memory.shape)}, norm {memory.norm():.2f}  {line[:60]}")

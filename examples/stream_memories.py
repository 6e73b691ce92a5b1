"""Compress a talk turn by turn, in constant time and space: `python examples/stream_memories.py MODEL DIALOGUES`."""

import sys
import time

import epo
from epo.data.cache import ClipCache
from epo.model.heard_emotions import heard_emotions_of

model, processor = epo.load_model(sys.argv[1])
stream = epo.MemoryStream(model.compressor.eval())
dialogue = next(iter(epo.read_dialogues(sys.argv[2])))
hear = heard_emotions_of(model, processor, ClipCache(None))  # where memories carry emotions: those that the model hears
for turn in dialogue.turns:
    ids = processor.encode_history([turn] if hear is None else hear([turn]))
    began = time.perf_counter()
    memory = stream.append(ids)
    took_ms = (time.perf_counter() - began) * 1e3
    print(f"{took_ms:6.1f} ms  {len(ids):4d} ids -> {tuple(memory.shape)}, norm {memory.norm():.2f}  {turn.text[:60]}")

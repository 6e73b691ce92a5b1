"""Compress talks turn by turn, in constant time and space: `python examples/stream_memories.py MODEL DIALOGUES`.

Two dialogues are read together, and their state is kept in a file between one turn and the next.
"""

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import epo
from epo.data.cache import ClipCache
from epo.model.heard_emotions import heard_emotions_of

model, processor = epo.load_model(sys.argv[1])
dialogues = list(islice(epo.read_dialogues(sys.argv[2]), 2))
hear = heard_emotions_of(model, processor, ClipCache(None))  # where memories carry emotions: those that the model hears
stream = epo.MemoryStream(model.compressor.eval(), len(dialogues))
state = Path(tempfile.mkdtemp()) / "state.safetensors"
for number in range(max(len(dialogue.turns) for dialogue in dialogues)):
    turns = {row: d.turns[number] for row, d in enumerate(dialogues) if number < len(d.turns)}
    ids = {row: processor.encode_history([turn] if hear is None else hear([turn])) for row, turn in turns.items()}
    began = time.perf_counter()
    memories = stream.append_many(ids)
    took_ms = (time.perf_counter() - began) * 1e3
    for row, memory in memories.items():
        size, norm = tuple(memory.shape), memory.norm()
        print(f"{took_ms:6.1f} ms  {len(ids[row]):4d} ids -> {size}, norm {norm:.2f}  {turns[row].text[:60]}")
    stream.save(state)
    stream = epo.MemoryStream.load(state, model.compressor)

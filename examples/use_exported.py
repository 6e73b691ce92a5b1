"""Answer with an exported model: `python examples/use_exported.py FOLDER "I lost my keys." [CLIP]`."""

import sys
from pathlib import Path

import epo
from epo.data.dialogue import Clip, Turn

model, processor = epo.load_model(sys.argv[1])
clip = Clip(audio=Path(sys.argv[3])) if len(sys.argv) > 3 else None
place = epo.Reply("mine", 1, (), Turn("user", sys.argv[2], clip=clip), text="", emotion=None)
print(epo.answer(model, processor, [place])[0])

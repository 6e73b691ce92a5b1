"""Talk to a model in the terminal: `python examples/chat.py MODEL [ADAPTER]`; an empty line ends it.

Each turn is read once: what was said before is kept as memory tokens. A line that ends in a path in brackets,
`Look at me! [me.mp4]`, is heard and seen too.
"""

import re
import sys
from pathlib import Path

import epo
from epo.data.dialogue import Clip, Turn

model, processor = epo.load_model(sys.argv[1])
if len(sys.argv) > 2:
    model = epo.load_adapter(model, sys.argv[2])
talk = epo.Conversation(model, processor)
while line := input("you: ").strip():
    text, path = re.fullmatch(r"(.*?)(?:\s*\[(.+)\])?", line).groups()
    is_sound = path is not None and path.endswith((".wav", ".flac", ".mp3"))
    clip = None if path is None else Clip(audio=Path(path), video=None if is_sound else Path(path))
    reply = talk.say(Turn("user", text, clip=clip))
    print(f"model ({reply.emotion}): {reply.text}")

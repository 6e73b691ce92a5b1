"""Talk to a model in the terminal: `python examples/chat.py MODEL [ADAPTER]`; an empty line ends it.

It reads what was said before as memory tokens. A line that ends in a path in brackets, `Look at me! [me.mp4]`, is heard
and seen too.
"""

import re
import sys
from pathlib import Path

import epo
from epo.data.dialogue import Clip, Turn
from epo.prompts.emotion_label import said_turn, split_reply

model, processor = epo.load_model(sys.argv[1])
if len(sys.argv) > 2:
    model = epo.load_adapter(model, sys.argv[2])
said: list[Turn] = []
while line := input("you: ").strip():
    text, path = re.fullmatch(r"(.*?)(?:\s*\[(.+)\])?", line).groups()
    is_sound = path is not None and path.endswith((".wav", ".flac", ".mp3"))
    clip = None if path is None else Clip(audio=Path(path), video=None if is_sound else Path(path))
    current = Turn("user", text, clip=clip)
    place = epo.Reply("chat", len(said) + 1, tuple(said), current, text="", emotion=None)
    reply = epo.answer(model, processor, [place])[0]
    emotion, words = split_reply(reply)
    print(f"model ({emotion}): {words}")
    said += [current, said_turn(reply)]

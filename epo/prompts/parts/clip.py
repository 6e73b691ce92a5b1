"""Part `clip`: placeholders of the emotion, the sound and the picture of the current turn."""

from epo.prompts.emotion_label import label
from epo.prompts.marks import AUDIO_TOKEN, EMOTION_TOKEN, VIDEO_TOKEN
from epo.prompts.part import Asked, Text


def _render(asked: Asked) -> str:
    if asked.num_audio_tokens is None and asked.num_video_tokens is None:
        return ""
    heard, seen = (0 if number is None else number for number in (asked.num_audio_tokens, asked.num_video_tokens))
    return label(EMOTION_TOKEN) + AUDIO_TOKEN * heard + VIDEO_TOKEN * seen


PART = Text("user", _render, may_hold_marks=True)

"""Part `omni_clip`: the current turn's sound and picture as Qwen2.5-Omni is shown them, each between its marks."""

from epo.prompts.part import Asked, Text

AUDIO, VIDEO = "<|AUDIO|>", "<|VIDEO|>"
AUDIO_BOS, AUDIO_EOS, VISION_BOS, VISION_EOS = "<|audio_bos|>", "<|audio_eos|>", "<|vision_bos|>", "<|vision_eos|>"
MARKS = (AUDIO, VIDEO, AUDIO_BOS, AUDIO_EOS, VISION_BOS, VISION_EOS)
"""Tokens of the thinker's own tokenizer that a clip is written with."""


def _render(asked: Asked) -> str:
    heard, seen = asked.num_audio_tokens, asked.num_video_tokens
    audio = "" if heard is None else AUDIO_BOS + AUDIO * heard + AUDIO_EOS
    return audio if seen is None else audio + VISION_BOS + VIDEO * seen + VISION_EOS


PART = Text("user", _render, may_hold_marks=True)

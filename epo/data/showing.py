"""Showing: one dialogue as text, or as a page of its own with frames, waveforms, words and emotions."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment
from PIL import Image, ImageDraw

from epo.data.checking import dialogues_file
from epo.data.dialogue import Clip, DataError, Dialogue, read_dialogues
from epo.data.media import MediaError, MediaLimits, decode_clip

_LIMITS = MediaLimits(max_frames=6, max_side_px=160)
_WAVE_WIDTH, _WAVE_HEIGHT = 480, 60

_PAGE = """<!doctype html>
<html lang="{{ dialogue.language }}"><meta charset="utf-8"><title>{{ dialogue.id }}</title>
<style>
body { font: 15px/1.5 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
section { border-left: 4px solid #bbb; margin: 1rem 0; padding: 0 1rem; }
.assistant { border-color: #4a7; } .user { border-color: #47a; }
.fault { color: #b00; } img { vertical-align: middle; margin: 2px; }
</style>
<h1>{{ dialogue.id }}</h1>
<p>{{ dialogue.split }} &middot; {{ dialogue.language }} &middot; {{ turns|length }} turns</p>
{% for turn, view in turns %}
<section class="{{ turn.speaker }}">
<p><b>{{ loop.index0 }} {{ turn.speaker }}</b> <i>{{ turn.emotion if turn.emotion is not none else "no label" }}</i></p>
<p>{{ turn.text }}</p>
{% for picture in view.pictures %}<img alt="" src="data:image/png;base64,{{ picture }}">{% endfor %}
{% if view.fault %}<p class="fault">{{ view.fault }}</p>{% endif %}
</section>
{% endfor %}
</html>
"""


def find_dialogue(path: Path, dialogue_id: str) -> Dialogue:
    """Return a dialogue of a file, or of the folder that holds `dialogues.jsonl`, by its id.

    Raises:
        DataError: the file is missing, faulty before that dialogue, or has no such id.
    """
    file = dialogues_file(path)
    first = None
    for dialogue in read_dialogues(file):
        if dialogue.id == dialogue_id:
            return dialogue
        first = dialogue.id if first is None else first
    raise DataError(f"{file}: no dialogue {dialogue_id!r}; the first one is {first!r}")


def format_dialogue(dialogue: Dialogue) -> str:
    """Return a dialogue as text, a line a turn: number, role, emotion, words, and the clip on a line below."""
    lines = [f"{dialogue.id} ({dialogue.split}, {dialogue.language})"]
    for index, turn in enumerate(dialogue.turns):
        emotion = "-" if turn.emotion is None else turn.emotion
        lines.append(f"{index:3d} {turn.speaker:9s} {emotion:9s} {turn.text}")
        if turn.clip is not None:
            lines.append(f"{'':24}{_format_clip(turn.clip)}")
        if index in dialogue.facts:
            lines.append(f"{'':24}facts: {', '.join(dialogue.facts[index])}")
    return "\n".join(lines)


def write_page(dialogue: Dialogue, target: Path) -> None:
    """Write a dialogue as one HTML file that needs no other; a clip that cannot be decoded says why."""
    turns = [(turn, _view(turn.clip)) for turn in dialogue.turns]
    page = Environment(autoescape=True).from_string(_PAGE).render(dialogue=dialogue, turns=turns)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(target)


def _format_clip(clip: Clip) -> str:
    span = f"from {clip.start_s:g} s to " + ("the end" if clip.end_s is None else f"{clip.end_s:g} s")
    files = [f"{kind} {path}" for kind, path in (("audio", clip.audio), ("video", clip.video)) if path is not None]
    return f"{', '.join(files)}, {span}"


def _view(clip: Clip | None) -> dict[str, object]:
    """Return the pictures of a clip as base64 PNG, frames first, then the waveform; or the fault."""
    if clip is None:
        return {"pictures": [], "fault": ""}
    try:
        media = decode_clip(clip, _LIMITS)
    except MediaError as error:
        return {"pictures": [], "fault": str(error)}
    images = [] if media.frames is None else [Image.fromarray(frame) for frame in media.frames]
    if media.waveform is not None:
        images.append(_draw_waveform(media.waveform))
    return {"pictures": [_encode(image) for image in images], "fault": ""}


def _draw_waveform(waveform: np.ndarray) -> Image.Image:
    """Draw float32 (S,) in [-1, 1] as the range of each column of samples."""
    image = Image.new("RGB", (_WAVE_WIDTH, _WAVE_HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    middle = _WAVE_HEIGHT / 2
    for column, samples in enumerate(np.array_split(waveform, _WAVE_WIDTH)):
        if len(samples):
            top, bottom = middle - middle * float(samples.max()), middle - middle * float(samples.min())
            draw.line([(column, top), (column, bottom)], fill="#247")
    return image


def _encode(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


__all__ = ["find_dialogue", "format_dialogue", "write_page"]

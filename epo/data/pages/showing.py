"""Showing: one dialogue as text, or as a page of its own with what plays, frames, waveforms, words and emotions."""

from collections.abc import Iterable
from pathlib import Path

from epo.data.checking import dialogues_file
from epo.data.descriptions import with_traced_descriptions
from epo.data.dialogue import Clip, DataError, Dialogue, read_dialogues
from epo.data.pages.clip_view import PlaceMedia, embed, format_span, view_clip
from epo.data.pages.page_files import page_template
from epo.data.pages.waveform import HEIGHT, WIDTH
from epo.files import write_whole


def described_dialogues(file: Path, descriptions: Path | None) -> Iterable[Dialogue]:
    """Return the dialogues of a file, with the descriptions of a side file on their turns where one is named.

    Each says in brackets what made it.

    Raises:
        DataError: a file is missing or faulty.
    """
    dialogues = read_dialogues(file)
    return dialogues if descriptions is None else with_traced_descriptions(list(dialogues), descriptions)


def find_dialogue(path: Path, dialogue_id: str, descriptions: Path | None = None) -> Dialogue:
    """Return a dialogue of a file, or of the folder that holds `dialogues.jsonl`, by its id.

    Args:
        path: of either.
        dialogue_id: of the dialogue.
        descriptions: a side file of them, to be shown with it.

    Raises:
        DataError: the file is missing, faulty before that dialogue, or has no such id.
    """
    file = dialogues_file(path)
    first = None
    for dialogue in described_dialogues(file, descriptions):
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
        if turn.labelled_by is not None:
            lines.append(f"{'':24}emotion by {turn.labelled_by}")
        if turn.description is not None:
            lines.append(f"{'':24}described: {turn.description}")
        if turn.clip is not None:
            lines.append(f"{'':24}{_format_clip(turn.clip)}")
        if index in dialogue.facts:
            lines.append(f"{'':24}facts: {', '.join(dialogue.facts[index])}")
    return "\n".join(lines)


def write_page(dialogue: Dialogue, target: Path, place: PlaceMedia = embed, index: str | None = None) -> None:
    """Write a dialogue as an HTML page; a clip that cannot be decoded says why.

    Args:
        dialogue: any.
        target: the file.
        place: where its sound and video are played from; by default from inside the page, which then needs no other
            file.
        index: address of the page of the whole corpus, if there is one.
    """
    turns = [(turn, None if turn.clip is None else view_clip(turn.clip, place)) for turn in dialogue.turns]
    page = page_template("dialogue.html.j2").render(
        dialogue=dialogue, turns=turns, index=index, width=WIDTH, height=HEIGHT
    )
    write_whole(target, page)


def _format_clip(clip: Clip) -> str:
    files = [f"{kind} {path}" for kind, path in (("audio", clip.audio), ("video", clip.video)) if path is not None]
    return f"{', '.join(files)}, {format_span(clip)}"


__all__ = ["described_dialogues", "find_dialogue", "format_dialogue", "write_page"]

"""A corpus made from another one: its media and its terms come along, and what it is made of stays."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from epo.data.corpora.media_folder import MediaFolder
from epo.data.dialogue import Clip, Dialogue
from launch.recipe import RecipeError


def refuse_same_folder(output_dir: str, sources: Mapping[str, Sequence[str]]) -> None:
    """Refuse folders in place of dialogues files, and a result in the folder of one.

    Args:
        output_dir: where the result goes.
        sources: the dialogues files that are read, by the key that names them.

    Raises:
        RecipeError: with the remedy.
    """
    out = Path(output_dir).resolve()
    for key, files in sources.items():
        for file in map(Path, files):
            if file.is_dir():
                raise RecipeError(f"{key}: {file} is a folder; name the dialogues.jsonl in it")
            if file.resolve().parent == out:
                raise RecipeError(
                    f"output_dir: {output_dir} is the folder of {file}, which is never written over; name another"
                )


def with_media(dialogue: Dialogue, media: MediaFolder, where: str) -> Dialogue:
    """Return a dialogue with its media brought below the new folder."""
    turns = tuple(
        turn if turn.clip is None else replace(turn, clip=place_clip(turn.clip, media, where))
        for turn in dialogue.turns
    )
    return replace(dialogue, turns=turns)


def place_clip(clip: Clip, media: MediaFolder, where: str) -> Clip:
    """Return a clip whose files are brought below the new folder."""
    audio, video = (None if path is None else media.place(path, where) for path in (clip.audio, clip.video))
    return replace(clip, audio=audio, video=video)


def licences_of(files: Sequence[str]) -> dict[str, str]:
    """Return what the cards beside dialogues files say of their terms."""
    found = {}
    for file in files:
        try:
            licence = json.loads(Path(file).with_name("card.json").read_bytes())["licence"]
        except (OSError, ValueError, LookupError, TypeError):
            licence = "not known: no card.json beside it says it"
        found[file] = str(licence)
    return found


def with_output_dir(argv: Sequence[str]) -> list[str]:
    """Return a command line in which `--out`, as data verbs are typed, is `--output_dir`, the key of every stage."""
    return ["--output_dir" + word[5:] if word.split("=")[0] == "--out" else word for word in argv]


__all__ = ["licences_of", "place_clip", "refuse_same_folder", "with_media", "with_output_dir"]

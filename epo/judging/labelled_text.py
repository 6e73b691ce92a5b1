"""Labelled text: what a judge is fitted on, and what it is rated on, with nothing in both."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from compressor.words import split_words
from epo.data.dialogue import DataError, Dialogue, Split, read_dialogues
from epo.data.replies import Reply
from epo.emotions import Emotion
from epo.judging.judge import EmotionJudge, JudgeQuality, rate_judge


@dataclass(frozen=True)
class LabelledText:
    """Texts with the emotion that people gave them.

    Attributes:
        name: whose they are, such as "meld, test".
        texts: the words.
        emotions: one each.
        groups: the group or dialogue of each.
        languages: of each.
        num_left_out: how many were left out, because a judge knows the same words.
    """

    name: str
    texts: tuple[str, ...] = ()
    emotions: tuple[Emotion, ...] = ()
    groups: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    num_left_out: int = 0

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of each text, by which equal texts are found."""
        return frozenset(map(words_of, self.texts))

    def without(self, known: Collection[str]) -> "LabelledText":
        """Return those whose words are not among others, which are as `words` gives them."""
        kept = [place for place, text in enumerate(self.texts) if words_of(text) not in known]
        return LabelledText(
            self.name,
            tuple(self.texts[place] for place in kept),
            tuple(self.emotions[place] for place in kept),
            tuple(self.groups[place] for place in kept),
            tuple(self.languages[place] for place in kept),
            self.num_left_out + len(self.texts) - len(kept),
        )

    def rate(self, judge: EmotionJudge) -> JudgeQuality | None:
        """Return how good a judge is on them; None where there are none."""
        return rate_judge(judge, self.texts, self.emotions, self.groups, self.name, self.num_left_out)


def joined(parts: Sequence[LabelledText]) -> LabelledText:
    """Return the texts of several sources as one; groups of different sources stay apart."""
    return LabelledText(
        ", ".join(part.name for part in parts),
        tuple(text for part in parts for text in part.texts),
        tuple(emotion for part in parts for emotion in part.emotions),
        tuple(f"{part.name}: {group}" for part in parts for group in part.groups),
        tuple(language for part in parts for language in part.languages),
    )


def labelled_replies(replies: Iterable[Reply], name: str) -> LabelledText:
    """Return the replies whose emotion a person gave: a model's labels say nothing of how good a judge is."""
    known = [(reply, reply.emotion) for reply in replies if reply.emotion is not None and reply.labelled_by is None]
    return LabelledText(
        name,
        tuple(reply.text for reply, _ in known),
        tuple(emotion for _, emotion in known),
        tuple(reply.dialogue_id for reply, _ in known),
        tuple(reply.language for reply, _ in known),
    )


def read_judge_data(path: str) -> tuple[LabelledText, LabelledText]:
    """Read a file of dialogues as (what a judge is fitted on, what it is rated on).

    Turns of both speakers count, if a person gave their emotion. What is rated on is the test split where it has
    labels, else the validation split.

    Args:
        path: a dialogues.jsonl.

    Raises:
        DataError: the file is missing or faulty, or no turn of its train split has an emotion that a person gave.
    """
    of_split: dict[str, list[tuple[Dialogue, str, Emotion]]] = {}
    for dialogue in read_dialogues(path):
        for turn in dialogue.turns:
            if turn.emotion is not None and turn.labelled_by is None:
                of_split.setdefault(str(dialogue.split), []).append((dialogue, turn.text, turn.emotion))
    if not of_split.get("train"):
        found = ", ".join(f"{len(rows)} of {split}" for split, rows in of_split.items()) or "none"
        raise DataError(
            f"judge_data {path}: a judge is fitted on turns of train whose emotion people gave, found {found}; name a "
            "file that has some, or import its corpus with splits"
        )
    held_out: Split = "test" if of_split.get("test") else "validation"
    label = _corpus_name(path)
    return _make(f"{label}, train", of_split["train"]), _make(f"{label}, {held_out}", of_split.get(held_out, []))


def count_languages(texts: LabelledText) -> str | None:
    """Return a sentence where texts are of several languages, which a sentence model may not all know; else None."""
    counts = Counter(texts.languages)
    if len(counts) < 2:
        return None
    told = ", ".join(f"{count:,} {language}" for language, count in counts.most_common())
    return (
        f"The judge of emotions is fitted on texts of {len(counts)} languages ({told}): its model must know them all."
    )


def words_of(text: str) -> str:
    """Return what makes two texts the same: their words, whatever the case, marks and blanks."""
    words = split_words(text)
    return " ".join(words) if words else text


def _make(name: str, rows: Sequence[tuple[Dialogue, str, Emotion]]) -> LabelledText:
    return LabelledText(
        name,
        tuple(text for _, text, _ in rows),
        tuple(emotion for _, _, emotion in rows),
        tuple(dialogue.id if dialogue.group is None else dialogue.group for dialogue, _, _ in rows),
        tuple(dialogue.language for dialogue, _, _ in rows),
    )


def _corpus_name(path: str) -> str:
    """Return what tells a file from others: its folder's name where the file itself is called as all are."""
    file = Path(path)
    if file.stem != "dialogues":
        return file.stem
    folder = file.resolve().parent
    return folder.parent.name if folder.name == "corpus" else folder.name


__all__ = ["LabelledText", "count_languages", "joined", "labelled_replies", "read_judge_data", "words_of"]

"""Source `vision`: an OpenAI-compatible vision endpoint looks at a few frames of each clip and describes the face.

Everything is asked before the first description is told, several clips at a time. An answer is kept as it comes, by the
clip's content, the question and the model: a run that was stopped asks only what is still open.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from epo.asking.answer_cache import AnswerCache
from epo.asking.endpoint_keys import EndpointKeys
from epo.asking.kept_chat import KeptChat
from epo.asking.questions import Question
from epo.data.decoding.opening import MediaError
from epo.data.describers.clip_frames import ClipFrames, undecodable
from epo.data.describers.describer import Describe, Described, Describer, Left
from epo.data.describers.face_question import VERSION, face_question, read_description
from epo.data.dialogue import DataError, Dialogue
from epo.data.face_crop import open_detector
from epo.data.side_files import Place
from epo.redaction import redact

_CACHE = "vision_cache.jsonl"


@dataclass(frozen=True, kw_only=True)
class VisionOptions(EndpointKeys):
    """Who is asked, and what is shown."""

    llm_temperature: float = field(default=0.0, metadata={"help": "of sampling"})
    num_frames: int = field(default=6, metadata={"help": "frames shown of a clip, spread evenly", "role": "matters"})
    frame_side_px: int = field(
        default=512, metadata={"help": "longer side of a frame at most, in pixels", "role": "matters"}
    )
    face_detector: str | None = field(
        default=None,
        metadata={"help": "OpenCV detector: frames are cut to the face, a clip without one is not asked about"},
    )

    def __post_init__(self) -> None:
        """Refuse to ask nobody, and to show nothing that moves.

        Raises:
            DataError: names the key.
            EndpointError: likewise.
        """
        super().__post_init__()
        if self.llm_base_url is None or self.llm_model == "":
            raise DataError("source vision wants llm_base_url, such as http://127.0.0.1:8000/v1, and llm_model")
        if self.num_frames < 2:
            raise DataError(f"num_frames is {self.num_frames}, want 2 or more: one frame shows no movement")
        if self.frame_side_px < 16:
            raise DataError(f"frame_side_px is {self.frame_side_px}, want 16 or more")
        self.open_client(self.llm_base_url)  # refuses an address that cannot be used


@dataclass(frozen=True)
class _Asked:
    """A clip's question, and the frames it is about."""

    question: Question
    frames: ClipFrames


def _open(options: VisionOptions, data: Path, dialogues: Sequence[Dialogue], seed: int, folder: Path) -> Describe:
    assert options.llm_base_url is not None
    chat = KeptChat(options.open_chat(options.llm_base_url), AnswerCache(folder / _CACHE), "describe")
    if options.face_detector is not None:
        open_detector(options.face_detector)  # refuses one that is not there
    prepared = _prepare(dialogues, options, seed)
    chat.ask([asked.question for asked in prepared.values() if isinstance(asked, _Asked)], "answers")
    made_by = {"model": redact(options.llm_model), "prompt": VERSION}

    def describe(dialogue: Dialogue, turn: int) -> Described | Left:
        asked, place = prepared[dialogue.id, turn], f"{data}: dialogue {dialogue.id!r}, turn {turn}"
        if isinstance(asked, Left):
            return asked
        answer = chat.answer(asked.question)
        if asked.frames.fault is not None:
            return asked.frames.fault
        if answer is None:
            return Left("clip without a usable answer", f"{place}; --fresh true asks again")
        told = read_description(answer, asked.question.messages, place)
        return told if isinstance(told, Left) else Described(told, trace=made_by | {"frames_s": asked.frames.times_s})

    return describe


def _prepare(dialogues: Sequence[Dialogue], options: VisionOptions, seed: int) -> dict[Place, _Asked | Left]:
    """Return the question about each clip with a picture, or why there is none; clips of one content share theirs."""
    prepared: dict[Place, _Asked | Left] = {}
    same: dict[str, ClipFrames] = {}
    for dialogue in dialogues:
        for number, turn in enumerate(dialogue.turns):
            if turn.clip is None or turn.clip.video is None:
                continue
            size = (options.num_frames, options.frame_side_px, options.face_detector)
            frames = ClipFrames.of(turn.clip.video, turn.clip.start_s, turn.clip.end_s, *size)
            try:
                question = face_question(frames.times_s)
            except MediaError as error:
                prepared[dialogue.id, number] = undecodable(error)
                continue
            frames = same.setdefault(frames.identity, frames)
            prepared[dialogue.id, number] = _Asked(Question(question, seed, frames), frames)
    return prepared


DESCRIBER = Describer("frames that a vision model at an OpenAI-compatible endpoint looks at", VisionOptions, _open)

__all__ = ["DESCRIBER", "VisionOptions"]

"""What each stage would find in a dialogue, by the very rules that the stages count by."""

from epo.data.dialogue import Dialogue
from epo.data.replies import replies_of
from epo.data.selection import labelled_clips
from epo.preferences.gold import collect_gold

# In the order in which they are shown; {emotion} is filled in.
USES = {
    "extractor": "extractor: labelled clips of the user",
    "sft": "SFT: replies",
    "sft_last": "SFT: replies, replies: last",
    "sft_clip": "SFT: replies to a clip (require_clip)",
    "compressor": "compressor: replies with a history",
    "pairs": "preferences: replies with an emotion",
    "pairs_clip": "preferences: the same, to a clip",
    "evaluate": "evaluation: replies to score by emotion",
}


def count_uses(dialogue: Dialogue) -> dict[str, int]:
    """Return how much of each kind in `USES` a dialogue holds, and `extractor EMOTION` for the clips of each label."""
    replies = replies_of([dialogue], "all")
    clips = labelled_clips([dialogue])
    uses = {
        "extractor": len(clips),
        "sft": len(replies),
        "sft_last": bool(replies),
        "sft_clip": sum(example.current.clip is not None for example in replies),
        "compressor": sum(bool(example.history) for example in replies),
        "evaluate": sum(example.emotion is not None for example in replies),
    }
    if dialogue.split is not None:
        for key, require_clip in (("pairs", False), ("pairs_clip", True)):
            uses[key] = len(collect_gold([dialogue], dialogue.split, "all", require_clip))
    for _, emotion in clips:
        uses[f"extractor {emotion}"] = uses.get(f"extractor {emotion}", 0) + 1
    return {key: int(count) for key, count in uses.items() if count}


__all__ = ["USES", "count_uses"]

"""What a term asks of the pairs, made sure of before anything is trained."""

from collections.abc import Sequence

from epo.preferences.pair import PreferencePair
from epo.training.arguments import EpoArguments
from epo.training.objective import needs_other
from epo.training.other_clips import ClipDraw
from epo.training.preference_losses import LOSSES


class TermNeedError(ValueError):
    """A term needs what pairs or batches do not have; names the key, the pair and the remedy."""


def require_for_terms(pairs: Sequence[PreferencePair], args: EpoArguments, place: str = "train_dataset") -> None:
    """Refuse an objective that these pairs, or these batches, cannot give.

    Args:
        pairs: to be learnt, as they are learnt.
        args: say which terms there are, and how a global batch is cut.
        place: where the pairs are from, for the message.

    Raises:
        TermNeedError: in one line.
    """
    if args.emotion_margin != 0:
        _require_emotions(pairs, args, place)
    draw = ClipDraw(pairs, args.conditional_swap)
    if needs_other(args) and all(draw(index, 0) is None for index in range(len(pairs))):
        asked = "conditional_weight" if args.conditional_weight != 0 else "extra_terms"
        raise TermNeedError(
            f"{place}: {asked} is {getattr(args, asked)}, but of {len(pairs)} pairs none has a clip "
            f"{_HALF[args.conditional_swap]}and another dialogue's, of another user emotion, to be told from: leave "
            f"{asked} out, or give pairs of more dialogues with clips"
        )
    pieces = args.gradient_accumulation_steps * args.world_size
    if LOSSES[args.preference_loss].of == "batch" and pieces != 1:
        raise TermNeedError(
            f"preference_loss {args.preference_loss} sorts the pairs of a whole global batch, which is cut into "
            f"{pieces} pieces here: set per_device_train_batch_size to global_batch_size on one rank, or another loss"
        )


def require_kept_reference(args: EpoArguments) -> None:
    """Refuse terms that ask the reference for more than is kept of it, where it is not there while training goes on.

    Kept is what it says of the replies of each pair; that is all that every other term and loss asks for.

    Args:
        args: say which terms there are.

    Raises:
        TermNeedError: in one line.
    """
    if needs_other(args):
        asked = "conditional_weight" if args.conditional_weight != 0 else "extra_terms"
        raise TermNeedError(
            f"{asked} is {getattr(args, asked)}, which lets the reference read each gold reply under another clip at "
            f"every step, but tune is 'all', and only its scores of the pairs are kept: leave {asked} out, or set "
            "tune: lora"
        )


_HALF = {"both": "", "audio": "with audio ", "video": "with video "}


def _require_emotions(pairs: Sequence[PreferencePair], args: EpoArguments, place: str) -> None:
    unknown = [pair for pair in pairs if pair.chosen_emotion is None or pair.rejected_emotion is None]
    if unknown:
        raise TermNeedError(
            f"{place}: emotion_margin is {args.emotion_margin}, but {len(unknown)} of {len(pairs)} pairs do not say "
            f"the emotions of both replies, the first that of dialogue {unknown[0].dialogue_id!r}, turn "
            f"{unknown[0].reply.turn}: leave emotion_margin out, or leave such pairs out"
        )

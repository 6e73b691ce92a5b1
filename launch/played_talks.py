"""Played talks: the verbs of launch/rate.py by which a chat model plays users, and by which their talks are scored."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from launch.asked_model import add_asked_options, open_asked
from launch.recipe import RecipeError
from launch.talked_model import chosen, load_talked


def talk(argv: Sequence[str]) -> None:
    """Let role-played users talk with a model; each finished talk is kept, and a second run goes on."""
    parser = argparse.ArgumentParser(prog="launch/rate.py talk", description=talk.__doc__)
    parser.add_argument("folder", help="of the model that replies, or of an adapter of launch/epo.py")
    parser.add_argument("--cards", type=Path, required=True, help="cards.jsonl: who, situation, emotion of each user")
    parser.add_argument("--out", type=Path, required=True, help="folder for talks.jsonl and report.json")
    parser.add_argument("--turns", type=int, default=5, help="of the user in each talk")
    parser.add_argument("--batch_size", type=int, default=16, help="talks at a time")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="longest reply")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the model's weights")
    add_asked_options(parser, temperature=0.7)
    given = parser.parse_args(argv)
    for name in ("turns", "batch_size", "max_new_tokens"):
        if getattr(given, name) < 1:
            raise RecipeError(f"--{name} is {getattr(given, name)}, want 1 or more")
    folder, adapter = chosen(given.folder, None)
    from epo.asking.answer_cache import AnswerCache
    from epo.asking.kept_chat import KeptChat
    from epo.data.dialogue import dialogue_to_json, read_dialogues
    from epo.evaluation.conversation import Conversations
    from epo.evaluation.role_cards import read_cards
    from epo.evaluation.role_play import play_talks
    from epo.evaluation.talk_scores import NO_CLIPS
    from epo.files import write_whole

    cards, out = read_cards(given.cards), given.out / "talks.jsonl"
    asked = open_asked(given)
    settings = {
        "model": given.folder, "turns": given.turns, "max_new_tokens": given.max_new_tokens, "dtype": given.dtype,
        "user": asked.identity,
    }  # fmt: skip
    _require_same(given.out / "settings.json", settings)
    lines = out.read_text(encoding="utf-8").removesuffix("\n").split("\n") if out.is_file() else []
    done = {dialogue.id for dialogue in read_dialogues(out)} if lines else set()
    model, processor = load_talked(folder, adapter, given.dtype)
    user = KeptChat(asked, AnswerCache(given.out / "user.answers.jsonl"), "played user")
    left, faults = [card for card in cards if card.id not in done], {}

    def start(count: int) -> Conversations:
        return Conversations(model, processor, count, max_new_tokens=given.max_new_tokens, batch_size=count)

    for played in play_talks(start, left, user, given.turns, given.batch_size):
        if played.fault:
            faults[played.card.id] = played.fault
            print(f"card {played.card.id}: ended early and is left out; {played.fault}", flush=True)
            continue
        lines.append(json.dumps(dialogue_to_json(played.dialogue(), given.out), ensure_ascii=False))
        write_whole(out, "\n".join(lines) + "\n")
    report = settings | {"num_cards": len(cards), "num_talks": len(lines), "ended_early": faults, "notes": [NO_CLIPS]}
    write_whole(given.out / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {out}: {len(lines)} talks of {len(cards)} cards, {len(faults)} ended early\n{NO_CLIPS}")


def score(argv: Sequence[str]) -> None:
    """Score talks reply by reply: a judge's ratings from 1 to 5, degenerate and repeated replies, by reply number."""
    parser = argparse.ArgumentParser(prog="launch/rate.py score", description=score.__doc__)
    parser.add_argument("talks", type=Path, help="talks.jsonl that `talk` wrote, or any dialogues.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="NAME.json to write; the answers are kept beside it")
    add_asked_options(parser, temperature=0.0)
    given = parser.parse_args(argv)
    from epo.asking.answer_cache import AnswerCache
    from epo.asking.kept_chat import KeptChat
    from epo.data.dialogue import DataError, read_dialogues
    from epo.evaluation.talk_scores import TalkScores, format_talk_scores
    from epo.files import write_whole

    scores = TalkScores(list(read_dialogues(given.talks)))
    if not scores.questions:
        raise DataError(f"{given.talks}: holds no reply; write talks with `launch/rate.py talk`")
    asked = open_asked(given)
    judge = KeptChat(asked, AnswerCache(given.out.with_suffix(".answers.jsonl")), "judge")
    try:
        judge.ask(scores.questions, "answers")
    finally:  # also of an endpoint that went down half-way
        report = {"judge": asked.identity} | scores.report(judge)
        write_whole(given.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        print(format_talk_scores(report))


def _require_same(path: Path, settings: dict[str, object]) -> None:
    """Write what talks are made with; refuse to go on with another.

    Raises:
        RecipeError: the talks that are there were made otherwise.
    """
    from epo.files import write_whole

    text = json.dumps(settings, indent=1, ensure_ascii=False) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise RecipeError(f"{path}: the talks there were made with other settings; name another folder in --out")
    write_whole(path, text)


__all__ = ["score", "talk"]

"""Let people and models judge: `launch/rate.py sheets` writes blind sheets, `judge` fills them, `read` reads them."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch import stage
from launch.asked_model import add_asked_options, open_asked
from launch.played_talks import score, talk
from launch.recipe import RecipeError

_USAGE = """python launch/rate.py VERB ...

  sheets   write a sheet, a page with the clips, and a key that says who wrote what:
             sheets --report runs/mine/eval --systems sft sft+epo --out runs/mine/ratings
  judge    let a language model fill the sheet, each pair in both orders; run again it goes on:
             judge --key runs/mine/ratings.key.json --out gpt.csv --endpoint URL --model NAME
             judge --key runs/mine/ratings.key.json --out qwen.csv --local_model FOLDER
  read     read filled sheets, each file named by its rater, and say who was preferred and how far raters agree:
             read --key runs/mine/ratings.key.json anna.csv bo.csv [--out ratings.json]
  talk     let a chat model play users by role cards, and keep the talks; score rates their replies:
             talk runs/mine/epo --cards cards.jsonl --out runs/mine/talks --endpoint URL --model NAME
  score      runs/mine/talks/talks.jsonl --out scores.json --endpoint URL --model NAME

VERB --help says more."""


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch on the verb, the first argument."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return
    verbs = {"sheets": sheets, "judge": judge, "read": read, "talk": talk, "score": score}
    if arguments[0] not in verbs:
        raise RecipeError(f"unknown verb {arguments[0]!r}; want one of {', '.join(verbs)}")
    verbs[arguments[0]](arguments[1:])


def sheets(argv: Sequence[str]) -> None:
    """Write blind sheets of two or more systems whose replies an evaluation kept."""
    parser = argparse.ArgumentParser(prog="launch/rate.py sheets", description=sheets.__doc__)
    parser.add_argument("--report", type=Path, required=True, help="folder of launch/evaluate.py, with replies/ in it")
    parser.add_argument("--systems", nargs="+", required=True, metavar="ROW", help="two rows of it, or more")
    parser.add_argument("--out", type=Path, required=True, help="folder for the raters; the key is written beside it")
    parser.add_argument("--data", type=Path, help="dialogues.jsonl, unless the report says where it is")
    parser.add_argument("--count", type=int, default=40, help="turns to judge for each two systems, at most")
    parser.add_argument("--ratings", action="store_true", help="ask for ratings of each reply from 1 to 5, too")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and of the order")
    given = parser.parse_args(argv)
    if len(set(given.systems)) < 2 or len(set(given.systems)) < len(given.systems):
        raise RecipeError(f"--systems {' '.join(given.systems)}: want two rows or more, each once")
    if given.count < 1:
        raise RecipeError(f"--count {given.count}: want 1 or more")
    from epo.data.dialogue import read_dialogues
    from epo.data.replies import replies_of
    from epo.evaluation.rating_sheets import draw_items, write_sheets

    dialogues = {dialogue.id: dialogue for dialogue in read_dialogues(_data_of(given))}
    gold = replies_of(dialogues.values(), "all")
    said = {name: _said(given.report, name, dialogues, gold) for name in given.systems}
    items, same = draw_items(said, given.count, given.seed)
    asked = {(item.dialogue_id, item.turn) for item in items}
    key = given.out.with_name(given.out.name + ".key.json")
    about = {"report": str(given.report), "seed": given.seed, "ratings": given.ratings, "same_replies_left_out": same}
    write_sheets(given.out, key, items, [reply for reply in gold if (reply.dialogue_id, reply.turn) in asked], about)
    for pair, count in same.items():
        print(f"{pair}: {count} turns are left out, to which both reply the same")
    print(f"wrote {given.out / 'sheet.csv'} and pairs.html with {len(items)} items; the key, {key}, is not for raters")


def judge(argv: Sequence[str]) -> None:
    """Let a language model fill the sheet; its answers are kept beside it, and a second run asks only what is open."""
    parser = argparse.ArgumentParser(prog="launch/rate.py judge", description=judge.__doc__)
    parser.add_argument("--key", type=Path, required=True, help="the key of the sheets; who wrote what is not told")
    parser.add_argument("--out", type=Path, required=True, help="NAME.csv to write, named by the judge")
    parser.add_argument("--data", type=Path, help="dialogues.jsonl, unless the report says where it is")
    add_asked_options(parser, temperature=0.0)
    given = parser.parse_args(argv)
    if given.out.suffix != ".csv":
        raise RecipeError(f"--out {given.out}: want NAME.csv")
    from epo.asking.answer_cache import AnswerCache
    from epo.asking.kept_chat import KeptChat
    from epo.data.dialogue import read_dialogues
    from epo.data.replies import replies_of
    from epo.evaluation.rating_sheets import read_key, read_key_facts, sheet_text
    from epo.evaluation.sheet_judge import SheetJudge, format_judged
    from epo.files import write_whole

    items, facts = read_key(given.key), read_key_facts(given.key)
    given.report = Path(facts.get("report", "."))
    gold, has_ratings = replies_of(read_dialogues(_data_of(given)), "all"), bool(facts.get("ratings"))
    sheet_judge = SheetJudge(items, {(reply.dialogue_id, reply.turn): reply for reply in gold}, has_ratings)
    answers = given.out.with_suffix(".answers.jsonl")
    if given.out.exists() and not answers.exists():
        raise RecipeError(f"--out {given.out}: is there, and no judge's answers beside it; a person's? name another")
    asked = open_asked(given)
    chat = KeptChat(asked, AnswerCache(answers), "judge")
    try:
        chat.ask(sheet_judge.questions, "answers")
    finally:  # also of an endpoint that went down half-way
        judged = sheet_judge.read(chat)
        report = {"judge": asked.identity} | judged.report()
        write_whole(given.out, sheet_text(items, gold, has_ratings, judged.filled))
        write_whole(given.out.with_suffix(".json"), json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        print(f"wrote {given.out}, and {given.out.with_suffix('.json').name} about the judge\n{format_judged(report)}")


def read(argv: Sequence[str]) -> None:
    """Read filled sheets: wins with ties, Bradley-Terry strengths, agreement of the raters."""
    parser = argparse.ArgumentParser(prog="launch/rate.py read", description=read.__doc__)
    parser.add_argument("sheets", nargs="+", type=Path, help="filled sheets, each named by its rater")
    parser.add_argument("--key", type=Path, required=True, help="the key that belongs to them")
    parser.add_argument("--out", type=Path, help="write the numbers there as JSON, too")
    given = parser.parse_args(argv)
    from epo.evaluation.filled_sheets import format_results, rating_results, read_sheet
    from epo.evaluation.rating_sheets import read_key
    from epo.files import write_whole

    items = read_key(given.key)
    found = rating_results(items, [read_sheet(path, items) for path in given.sheets])
    if given.out is not None:
        write_whole(given.out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(format_results(found))


def _data_of(given: argparse.Namespace) -> Path:
    """Return where the dialogues lie, as said or as the report says."""
    if given.data is not None:
        return Path(given.data)
    report = given.report / "report.json"
    try:
        found = Path(json.loads(report.read_text(encoding="utf-8"))["settings"]["data"])
    except (OSError, ValueError, LookupError, TypeError):
        raise RecipeError(f"{report}: says no dialogues; want a folder of launch/evaluate.py, or --data FILE") from None
    if not found.is_file():
        raise RecipeError(f"{report}: its dialogues, {found}, are not there; name them by --data FILE")
    return found


def _said(report: Path, name: str, dialogues: dict[str, Any], gold: Sequence[Any]) -> dict[tuple[str, int], str]:
    """Return the words of a row's kept replies that are not empty, by dialogue and turn."""
    from epo.evaluation.answers import file_name, read_replies
    from epo.prompts.emotion_label import split_reply

    path = report / "replies" / f"{file_name(name)}.jsonl"
    if not path.is_file():
        kept = ", ".join(sorted(other.stem for other in path.parent.glob("*.jsonl"))) or "none"
        raise RecipeError(f"{path}: no kept replies of {name!r}; there are those of: {kept}")
    replies = read_replies(path, dialogues, gold).replies
    words = ((reply, split_reply(text)[1].strip()) for reply, text in zip(gold, replies, strict=True))
    return {(reply.dialogue_id, reply.turn): text for reply, text in words if text}


__all__ = ["main"]

if __name__ == "__main__":
    stage.main(main, is_stage=False)

"""Talk to a model in the terminal, with clips: `launch/chat.py [--model FOLDER] [--adapter FOLDER]`; `epo chat`."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import stage
from launch.processes.ends import explain
from launch.talked_model import add_model_options, load_chosen, parse_talk

if TYPE_CHECKING:
    from epo.data.dialogue import Clip
    from epo.evaluation.live_talk import MemorySize, Perceived

_HELP = """  /clip PATH  hear and see a recording with your next words; sound or picture alone will do
  /reset      begin anew; nothing is remembered
  /help       this
  /quit       end, as an empty file or Ctrl-D does"""
_SHOWN_EMOTIONS = 3


class Talk:
    """A talk at a terminal: lines go in, and what is shown comes out."""

    def __init__(self, model: Any, processor: Any, show: Callable[[str], None], settings: dict[str, Any]) -> None:
        """Begin.

        Args:
            model: a whole model, or a PEFT model around one.
            processor: the model's.
            show: prints a text as it is.
            settings: of generation.
        """
        from epo.evaluation.live_talk import LiveTalk

        self._show = show
        self._clip: Clip | None = None
        self._talk = LiveTalk(model, processor, show, **settings)

    def take(self, line: str) -> bool:
        """Take a line, and return whether the talk goes on; a mistake is told, and nothing is lost by it."""
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            return False
        if command == "/help":
            self._show(_HELP + "\n")
        elif command == "/reset":
            self._talk.reset()
            self._clip = None
            self._show("  begun anew\n")
        elif command == "/clip":
            self._take_clip(rest.strip().strip("'\""))
        elif command.startswith("/"):
            self._show(f"  no command {command!r:.40}; there are /clip PATH, /reset, /help and /quit\n")
        elif line.strip() or self._clip is not None:
            self._say(line.strip())
        return True

    def _take_clip(self, name: str) -> None:
        path = Path(name).expanduser()
        if not name or not path.is_file():
            self._show(f"  /clip {name}: no such file; want the path of a recording\n")
            return
        try:
            perceived = self._talk.perceive_file(path)
        except (ValueError, OSError) as error:
            self._show(f"  /clip {name}: {explain(error) or error}\n")
            return
        self._clip = perceived.clip
        for note in perceived.notes:
            self._show(f"  {note}\n")
        self._show(f"  {_recognised(perceived)}; say something to it\n")

    def _say(self, words: str) -> None:
        self._show("model: ")
        try:
            self._talk.say(words, self._clip)
        except (ValueError, OSError) as error:
            self._show(f"\n  not answered: {explain(error) or error}\n")
            return
        self._clip = None
        self._show(f"\n  {_remembered(self._talk.memory())}\n")


def _recognised(perceived: "Perceived") -> str:
    """Return what the extractor makes of a clip, in words."""
    from epo.emotions import EMOTIONS

    if perceived.shares is None:
        return "read"
    order = sorted(zip(perceived.shares["fused"], EMOTIONS, strict=True), reverse=True)[:_SHOWN_EMOTIONS]
    return f"{perceived.sense}: {', '.join(f'{emotion} {share:.2f}' for share, emotion in order)}"


def _remembered(size: "MemorySize") -> str:
    """Return how large the memory is."""
    if size.vectors is None or size.num_bytes is None:
        return f"remembered: {size.turns} turns, as text of {size.text_tokens} tokens"
    held = f"{size.vectors} memory tokens, {size.num_bytes / 1024:.1f} KiB"
    return f"remembered: {size.turns} turns in {held}; as text {size.text_tokens} tokens"


def run(argv: Sequence[str]) -> None:
    """Load a model and talk until the input ends."""
    parser = argparse.ArgumentParser("chat", description="Talk to a model.", epilog=_HELP, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_model_options(parser)
    options = parse_talk(parser, argv)
    model, processor, settings = load_chosen(options, "/help shows the commands")
    talk = Talk(model, processor, lambda text: print(text, end="", flush=True), settings)
    for line in _lines():
        if not talk.take(line):
            break


def _lines() -> Iterable[str]:
    """Yield what is typed, or what comes through a pipe, until it ends."""
    is_typed = sys.stdin.isatty()
    while True:
        if is_typed:
            print("you: ", end="", flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            line = ""
        except UnicodeDecodeError:
            print("  not UTF-8; say it again")
            continue
        if line == "":
            if is_typed:
                print()
            return
        if not is_typed:
            print(f"you: {line.rstrip()}", flush=True)
        yield line


if __name__ == "__main__":
    stage.main(lambda: run(sys.argv[1:]), is_stage=False)

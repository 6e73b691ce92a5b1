"""Talk to a model in the terminal, with clips: `launch/chat.py [--model FOLDER] [--adapter FOLDER]`; `epo chat`."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch import stage
from epo.data.dialogue import Clip, Turn
from launch.processes.ends import explain
from launch.recipe import RecipeError

QUICKSTART = Path("runs/quickstart")

_HELP = """  /clip PATH  hear and see a recording with your next words: .wav .flac .mp3 .ogg .m4a are sound alone
  /reset      begin anew; nothing is remembered
  /help       this
  /quit       end, as an empty file or Ctrl-D does"""
_SOUND = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac"}
_SHOWN_EMOTIONS = 3


@dataclass
class Talk:
    """A talk at a terminal: lines go in, and what is shown comes out.

    Attributes:
        model: a whole model, or a PEFT model around one.
        processor: the model's.
        show: prints a text as it is.
        settings: of generation.
    """

    model: Any
    processor: Any
    show: Callable[[str], None]
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        """Begin."""
        from epo.data.cache import ClipCache

        self._cache = ClipCache(None)
        self._reset()

    def _reset(self) -> None:
        from epo.evaluation.conversation import Conversations

        self._clip: Clip | None = None
        self._typing = _Typing(self.processor.chat, self.show)
        self._talks = Conversations(self.model, self.processor, 1, self._cache, streamer=self._typing, **self.settings)

    def take(self, line: str) -> bool:
        """Take a line, and return whether the talk goes on; a mistake is told, and nothing is lost by it."""
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            return False
        if command == "/help":
            self.show(_HELP + "\n")
        elif command == "/reset":
            self._reset()
            self.show("  begun anew\n")
        elif command == "/clip":
            self._take_clip(rest.strip().strip("'\""))
        elif command.startswith("/"):
            self.show(f"  no command {command!r:.40}; there are /clip PATH, /reset, /help and /quit\n")
        elif line.strip() or self._clip is not None:
            self._say(line.strip())
        return True

    def _take_clip(self, name: str) -> None:
        path = Path(name).expanduser()
        if not name or not path.is_file():
            self.show(f"  /clip {name}: no such file; want the path of a recording\n")
            return
        sound, picture = Clip(audio=path), Clip(video=path)
        faults = []
        for clip in (sound,) if path.suffix.lower() in _SOUND else (Clip(audio=path, video=path), picture, sound):
            try:
                said = self._recognise(clip)
            except (ValueError, OSError) as error:  # a picture without sound is no mistake
                faults.append(f"  /clip {name}: {explain(error) or error}\n")
                continue
            self._clip = clip
            self.show(f"  {said}; say something to it\n")
            return
        self.show(faults[0])

    def _recognise(self, clip: Clip) -> str:
        """Return what the extractor makes of a clip, in words."""
        from epo.emotions import EMOTIONS
        from epo.evaluation.recognition import emotion_shares
        from epo.model.family import bare

        extractor = getattr(bare(self.model), "extractor", None)
        if extractor is None:
            self.processor.clips.read(clip, self._cache)
            return "read"
        shares = emotion_shares(extractor, [clip], self.processor.clips, self._cache)["fused"][0].tolist()
        order = sorted(zip(shares, EMOTIONS, strict=True), reverse=True)[:_SHOWN_EMOTIONS]
        sense = "heard" if clip.video is None else "seen" if clip.audio is None else "heard and seen"
        return f"{sense}: {', '.join(f'{emotion} {share:.2f}' for share, emotion in order)}"

    def _say(self, words: str) -> None:
        self.show("model: ")
        try:
            self._talks.answer({0: Turn("user", words, clip=self._clip)})
        except (ValueError, OSError) as error:
            self.show(f"\n  not answered: {explain(error) or error}\n")
            return
        self._clip = None
        self.show(f"\n  {self._remembered()}\n")

    def _remembered(self) -> str:
        """Return how large the memory is."""
        turns, memories = self._talks.turns[0], self._talks.memories(0)
        if memories is None:
            return f"remembered: {len(turns)} turns, as text"
        size = memories.numel() * memories.element_size() / 1024
        return f"remembered: {len(turns)} turns in {len(memories)} memory tokens, {size:.1f} KiB"


class _Typing:
    """Shows a reply while it is written; what `generate` calls a streamer."""

    def __init__(self, chat: Any, show: Callable[[str], None]) -> None:
        self._chat, self._show = chat, show
        self._ids: list[int] = []
        self._shown, self._has_begun = "", False

    def put(self, ids: Any) -> None:
        """Take the prompt, and then each token as it comes."""
        if self._has_begun:
            self._ids += ids.reshape(-1).tolist()
            self._show_new(is_over=False)
        self._has_begun = True

    def end(self) -> None:
        """Show the rest, and be ready for another reply."""
        self._show_new(is_over=True)
        self._ids, self._shown, self._has_begun = [], "", False

    def _show_new(self, is_over: bool) -> None:
        text = self._chat.decode(self._ids)
        if text.startswith(self._shown) and (is_over or not text.endswith("\ufffd")):  # half a character
            self._show(text[len(self._shown) :])
            self._shown = text


def run(argv: Sequence[str]) -> None:
    """Load a model and talk until the input ends."""
    options = _parse(argv)
    model, adapter = chosen(options.model, options.adapter)
    from epo.model.loading import load_adapter, load_model

    print(f"loading {model}{'' if adapter is None else f' with {adapter}'}; /help shows the commands", flush=True)
    whole, processor = load_model(model, options.dtype)
    policy = whole if adapter is None else load_adapter(whole, adapter)
    settings = {"max_new_tokens": options.max_new_tokens, "temperature": options.temperature}
    talk = Talk(policy, processor, lambda text: print(text, end="", flush=True), settings)
    for line in _lines():
        if not talk.take(line):
            break


def chosen(model: str | None, adapter: str | None) -> tuple[str, str | None]:
    """Return the folders of the model and of the adapter on it: those that are named, else those of the quickstart.

    Raises:
        RecipeError: none is named, and there is no finished quickstart; or an adapter is named without its model.
        FolderError: the folder holds neither a model nor an adapter.
    """
    from epo.evaluation.folders import base_folder, is_adapter

    if model is not None:
        if is_adapter(model):
            if adapter is not None:
                raise RecipeError(f"--adapter {adapter}: --model {model} is an adapter already; name one of them")
            return base_folder(model), model
        if adapter is not None and not is_adapter(adapter):
            raise RecipeError(f"--adapter {adapter}: is a whole model; name it as --model")
        return model, adapter
    if adapter is not None:
        if not is_adapter(adapter):
            raise RecipeError(f"--adapter {adapter}: is a whole model; name it as --model")
        return base_folder(adapter), adapter
    if all((QUICKSTART / name / "stage.json").is_file() for name in ("sft", "epo")):
        return str(QUICKSTART / "sft"), str(QUICKSTART / "epo")
    raise RecipeError(
        f"name a model: --model FOLDER, written by launch/sft.py or launch/epo.py; {QUICKSTART} has none finished "
        "(epo quickstart makes one)"
    )


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


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("chat", description="Talk to a model.", epilog=_HELP, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", help=f"folder of a model, or of an adapter; none: {QUICKSTART}, once it is finished")
    parser.add_argument("--adapter", help="folder of an adapter of launch/epo.py on the model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="longest reply")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest words")
    options = parser.parse_args(argv)
    if options.max_new_tokens < 1:
        raise RecipeError(f"--max_new_tokens is {options.max_new_tokens}, want 1 or more")
    if not 0 <= options.temperature < float("inf"):
        raise RecipeError(f"--temperature is {options.temperature}, want 0 or more")
    return options


if __name__ == "__main__":
    stage.main(lambda: run(sys.argv[1:]), is_stage=False)

"""Data: `import` a corpus as `dialogues.jsonl` and media; `check`, `describe`, `label`, voice or `show` such a file."""

import importlib
import sys
from collections.abc import Sequence

import launch  # noqa: F401
from launch import stage
from launch.data_verbs import describing_faces, labelling, lending
from launch.data_verbs.importing import RECIPES, ImportRecipe
from launch.recipe import RecipeError

_USAGE = """python launch/data.py VERB ...

  import   read a corpus folder, or write the built-in corpus:
             import --corpus meld --root MELD --out runs/meld/corpus
             import --config recipes/quickstart/data.yaml
  import-pairs  bring rankings (prompt, chosen, rejected) into dialogues.jsonl and pairs.jsonl:
             import-pairs rankings.jsonl --out runs/mine/corpus [--columns prompt=question,chosen=a,rejected=b]
  lend-clips  give user turns without a clip one of the same emotion, of a corpus of labelled voices:
             lend-clips --data TEXT/dialogues.jsonl --voices VOICES/dialogues.jsonl --out runs/mine/corpus
  label-maps  print a label map, or which there are:
             label-maps [meld]
  check    list every fault of a dialogues file and its media:
             check runs/meld/corpus/dialogues.jsonl [--json] [--no-decode] [--workers N]
  describe print what a dialogues file holds and what each stage would find in it:
             describe runs/meld/corpus/dialogues.jsonl [--json] [--html page.html] [--decode]
  describe-faces  say in a sentence what each clip's face does, in descriptions.jsonl:
             describe-faces --data runs/mine/corpus/dialogues.jsonl --source builtin --out runs/mine/descriptions
             describe-faces --data FILE --source vision --llm_base_url URL --llm_model NAME --out FOLDER
  label    let a model give emotions to turns that have none, marked as its own:
             label runs/mine/corpus --model NAME --what replies|words|clips --out runs/mine/labelled
  show     print one dialogue, or write pages with sound and video that play, frames, waveforms, words and emotions:
             show runs/meld/corpus/dialogues.jsonl meld-train-0 [--html page.html]
             show runs/meld/corpus/dialogues.jsonl --html FOLDER [--decode] [--limit N]

VERB --help says more."""

# The module of each verb, loaded when it is asked for; each has `run(argv)`.
_VERBS = {
    "import": "launch.data_verbs.importing",
    "lend-clips": "launch.data_verbs.lending",
    "import-pairs": "launch.data_verbs.importing_pairs",
    "label-maps": "launch.data_verbs.printing_label_maps",
    "check": "launch.data_verbs.checking",
    "describe": "launch.data_verbs.describing",
    "describe-faces": "launch.data_verbs.describing_faces",
    "label": "launch.data_verbs.labelling",
    "show": "launch.data_verbs.showing",
}

RECIPES_OF_VERBS = {
    "import": RECIPES,
    "lend-clips": lending.RECIPES,
    "describe-faces": describing_faces.RECIPES,
    "label": labelling.RECIPES,
}
"""The verbs that are stages, and the keys of their recipes."""


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch on the verb, the first argument."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return
    if arguments[0] not in _VERBS:
        raise RecipeError(f"unknown verb {arguments[0]!r}; want one of {', '.join(_VERBS)}")
    importlib.import_module(_VERBS[arguments[0]]).run(arguments[1:])


__all__ = ["RECIPES", "RECIPES_OF_VERBS", "ImportRecipe", "main"]

if __name__ == "__main__":
    stage.main(main)

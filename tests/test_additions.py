"""Another package adds one of each kind, a file each, without a line of this one being touched."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FILES = {
    "epo.corpora": """
        from epo.data.corpora.corpus import Corpus
        from epo.data.dialogue import Dialogue, Turn

        def read(root, media, report):
            for number, line in enumerate((root / "talks.txt").read_text().splitlines()):
                asked, _, answered = line.partition("|")
                turns = (Turn("user", asked, "sad"), Turn("assistant", answered, "neutral"))
                yield Dialogue(f"t{number}", turns)

        THING = Corpus("toy", "one exchange a line", "nobody's", read)
    """,
    "epo.describers": """
        from epo.data.describers.describer import Described, Describer

        def open_toy(options, data, dialogues, seed, folder):
            return lambda dialogue, turn: Described(f"Something moves in {dialogue.turns[turn].text}")

        THING = Describer(about="nothing it has seen", options=None, open=open_toy)
    """,
    "epo.sources": """
        from dataclasses import dataclass, field
        from epo.emotions import EMOTIONS
        from epo.preferences.source import PairSource

        @dataclass(frozen=True)
        class Settings:
            toy_ending: str = field(default="!", metadata={"help": "of every reply"})

        class Toy:
            name = "toy"

            def __init__(self, ending):
                self.ending = ending

            def available(self, gold):
                return frozenset(EMOTIONS)

            def propose(self, gold, emotions):
                return [[f"That makes me {emotion}{self.ending}"] for emotion in emotions]

        THING = PairSource(about="names the emotion", settings=Settings, make=lambda keys, _: Toy(keys.toy_ending))
    """,
    "epo.prompt_parts": """
        from epo.prompts.part import Text

        THING = Text("user", lambda asked: f"[{len(asked.history)} turns before] ")
    """,
    "epo.objective_terms": """
        from epo.training.objective import Term

        THING = Term("short gold replies", lambda scores, args: -scores.chosen_logps.mean())
    """,
    "epo.suites": """
        from epo.evaluation.suite import Column, Suite

        THING = Suite(
            columns=(Column("toy", "Toy", "Letters a reply."),),
            score=lambda task, answers: {"toy": sum(map(len, answers.words)) / len(answers.words)},
        )
    """,
    "epo.families": """
        class Family:
            model_class, processor_class, model_type = "ToyModel", "ToyProcessor", "toy"

        THING = Family()
    """,
}

SCRIPT = """
    import json, sys, torch, epo
    from pathlib import Path
    from epo.data.describers.describer import DESCRIBERS
    from epo.evaluation.evaluating import evaluate
    from epo.model.family import family_of
    from epo.preferences.source import SOURCES, SourceContext
    from epo.prompts.layout import Layout
    from epo.prompts.part import Asked
    from epo.training.objective import PairScores, objective

    class ToyModel(torch.nn.Module):
        pass

    dialogues = list(epo.read_dialogues(sys.argv[1]))
    replies = epo.replies_of(dialogues, "all")
    describe = DESCRIBERS.get("toy").open(None, Path(sys.argv[1]), dialogues, 0, Path(sys.argv[2]))
    source = SOURCES.get("toy")
    made = source.make(source.settings_from({"toy_ending": "?"}), None)
    ones = torch.ones(2)
    args = epo.EpoArguments(output_dir=sys.argv[2], extra_terms={"toy": 2.0}, alpha=0.0, use_cpu=True, bf16=False)
    asked = Asked(replies[0].history, replies[0].current)
    print(json.dumps({
        "corpus": [reply.text for reply in replies],
        "describer": sorted(describe(dialogue, 0).text for dialogue in dialogues),
        "source": sorted({pair.rejected[-1] for pair in epo.build_pairs(replies, made).pairs}),
        "part": Layout(("system", "turns", "toy", "words")).fixed(asked).after,
        "term": objective(PairScores(-ones, -ones, -ones, -ones, -ones), args)[0].item(),
        "suite": evaluate([reply.text for reply in replies], replies, ["toy"])["rows"][0]["toy"],
        "family": family_of(ToyModel()).model_type,
    }))
"""


@pytest.fixture
def environment(tmp_path):
    """A package is installed that brings one of each."""
    info = tmp_path / "site" / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    entries = ""
    for group, code in FILES.items():
        module = "toy_" + group.removeprefix("epo.")
        (tmp_path / "site" / f"{module}.py").write_text(textwrap.dedent(code))
        entries += f"[{group}]\ntoy = {module}:THING\n"
    (info / "entry_points.txt").write_text(entries)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)]), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_one_of_each_kind_is_one_file_of_another_package(environment, tmp_path):
    """The corpus is imported by the stage, by its name; the others are asked for by theirs."""
    (tmp_path / "talks.txt").write_text("I lost my keys.|Oh no, where?\nIt rains.|Then stay in.\nI won.|Well done.\n")
    data = [str(ROOT / "launch" / "data.py"), "import", "--corpus", "toy", "--root", str(tmp_path)]
    shares = ["--validation_share", "0", "--test_share", "0"]

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(*data, "--out", str(tmp_path / "corpus"), *shares)
    found = json.loads(run("-c", textwrap.dedent(SCRIPT), "corpus/dialogues.jsonl", "out").splitlines()[-1])
    assert sorted(found.pop("corpus")) == ["Oh no, where?", "Then stay in.", "Well done."]
    assert found.pop("describer")[0] == "Something moves in I lost my keys."
    assert found.pop("part") == "[0 turns before] I lost my keys."
    assert found.pop("term") == pytest.approx(0.6931 + 2.0 * 1.0, abs=1e-3)
    assert found == {"source": ["?"], "suite": pytest.approx((13 + 13 + 10) / 3), "family": "toy"}

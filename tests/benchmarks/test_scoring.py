"""The benchmark of scoring: its replies come from the seed, its clocks change no score, every suite has one."""

from benchmarks import scoring as benchmark
from epo.evaluation.evaluating import evaluate


def test_the_clocks_change_no_score(examples):
    gold, training = examples[8:], examples[:8]
    found = benchmark.measure(gold, training, seed=3)
    said = benchmark.make_replies(gold, 3)
    assert said == benchmark.make_replies(gold, 3) != benchmark.make_replies(gold * 4, 4)[: len(gold)]
    row = evaluate(said, gold, name="replies", training=training, seed=3)["rows"][-1]
    assert found["scores"].items() <= row.items() and {"rouge_l", "ers", "emotion_score"} <= found["scores"].keys()
    assert (found["num_replies"], found["num_rows"]) == (4, 2) and found["peak_mib"] >= found["peak_mib_before"] > 0
    assert {"judge", "ngrams", "diversity", "trajectories"} <= found["cpu_seconds_by_suite"].keys()

"""Overlap: what a reply shares with the gold reply, in words and, where an encoder is named, in meaning."""

import numpy as np

from epo.evaluation.bert_score import BertEncoder
from epo.evaluation.metrics import rouge_f1s, token_f1
from epo.evaluation.scoring import record_replies, scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values


def load_encoder(task: Task) -> BertEncoder | None:
    """Load what BERTScore is computed with, where one is named."""
    if task.bert_score_model is None:
        return None
    return BertEncoder(task.bert_score_model, task.bert_score_layer)


def score(task: Task, answers: Answers) -> Values:
    """Compare with the gold replies; a reply without words to a gold without words gains nothing by silence."""
    pairs = zip(answers.counted, task.texts, strict=True)
    values = scored("token_f1", [token_f1(said, gold) if said else 0.0 for said, gold in pairs], task.dialogue_ids)
    rouge = rouge_f1s(answers.counted, task.texts)["rougeL"]
    record_replies("rouge_l", rouge, task.dialogue_ids)
    values["rouge_l"] = float(np.mean(rouge))
    encoder = task.once(load_encoder)
    if encoder is not None:
        values |= scored("bert_score", encoder.f1s(answers.counted, task.texts), task.dialogue_ids)
    return values


SUITE = Suite(
    place=40,
    columns=(
        Column(
            "token_f1",
            "Token-F1",
            "Words shared with the gold reply (SQuAD's F1 on words, articles left out).",
            has_interval=True,
        ),
        Column("rouge_l", "ROUGE-L", "Longest common subsequence with the gold reply, F1.", in_console=False),
        Column(
            "bert_score",
            "BERTScore",
            "F1 of contextual embeddings, not rescaled; settings name model and layer.",
            has_interval=True,
            in_console=False,
        ),
    ),
    score=score,
    prepare=load_encoder,
)

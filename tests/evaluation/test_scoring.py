"""From replies to a row: words are scored, labels are not; facts and emotions come from the unchanged example."""

import pytest

from epo.evaluation.judge import WordJudge
from epo.evaluation.recognition import predict_emotions, recognise
from epo.evaluation.scoring import ReplyScorer
from epo.evaluation.text_recall import text_recall
from epo.training.examples import labelled_clips


@pytest.fixture
def scorer(examples, dialogues):
    judge = WordJudge.fit(["I am glad", "so glad", "I am sorry", "sorry indeed"], ["happy", "happy", "sad", "sad"])
    return ReplyScorer(examples[4:7], {dialogue.id: dialogue for dialogue in dialogues}, judge)


def test_a_row_scores_words_and_facts(scorer):
    """Gold of examples 4, 5, 6: happy Mira, sad Otto, sad Lena."""
    row = scorer.row(
        "x", ["(sad) I am glad about Mira.", "(happy) I am sorry, Otto.", "(sad) so glad"], prompt_tokens=7.0
    )
    assert row.name == "x" and row.prompt_tokens == 7.0
    assert row.emotion_score == pytest.approx(2 / 3)  # judged happy, sad, happy whatever the label says
    assert row.per_emotion == {"disgust": 1.0, "neutral": 0.0, "surprised": 1.0}
    assert row.fact_recall == pytest.approx(2 / 3)
    assert row.mean_reply_words == pytest.approx((5 + 4 + 2) / 3)


def test_gold_replies_score_in_full(scorer, examples):
    row = scorer.row("gold", [f"({e.reply_emotion}) {e.reply}" for e in examples[4:7]])
    assert (row.emotion_score, row.fact_recall, row.token_f1) == (1.0, 1.0, 1.0)


def test_sampled_replies_fill_their_own_fields(scorer):
    fields = scorer.sampled(["glad Mira", "glad", "glad"])
    assert fields == {"emotion_score_sampled": pytest.approx(1 / 3), "fact_recall_sampled": pytest.approx(1 / 3)}


def test_recognition_counts_every_clip_once(make_extractor, dialogues, reader, clip_cache):
    labelled = labelled_clips(dialogues)
    clips, emotions = [clip for clip, _ in labelled], [emotion for _, emotion in labelled]
    extractor = make_extractor()
    found = predict_emotions(extractor, clips, reader, clip_cache, batch_size=4)
    assert found == predict_emotions(extractor, clips, reader, clip_cache, batch_size=11)
    report = recognise(extractor, clips, found["fused"], reader, clip_cache)
    assert report["accuracy"] == 1.0 and report["num_clips"] == sum(map(sum, report["confusion"])) == 11
    wrong = recognise(extractor, clips, emotions, reader, clip_cache)
    hits = sum(a == b for a, b in zip(found["fused"], emotions, strict=True))
    assert wrong["accuracy"] == pytest.approx(hits / 11)
    assert recognise(extractor, [], [], reader, clip_cache) == {}


def test_text_recall_reads_what_the_model_says(make_llm, tokenizer, examples):
    """Greedy replies are the same in any batch, and what they do not hold is not recalled."""
    llm, said = make_llm(), []
    generate = llm.generate

    def keep(**inputs):
        ids = generate(**inputs)
        said.extend(tokenizer.batch_decode(ids[:, inputs["input_ids"].size(1) :], skip_special_tokens=True))
        return ids

    llm.generate = keep
    assert text_recall(llm, tokenizer, examples[:3], [("never said",)] * 3, batch_size=1, max_new_tokens=12) == 0.0
    alone = list(said)
    said.clear()
    assert text_recall(llm, tokenizer, examples[:3], [("never said",)] * 3, max_new_tokens=12) == 0.0
    assert said == alone and all(said)

"""Compressors of every kind are built from parts, joined into whole models, saved with them, and answer."""

import pytest
import torch

from compressor.kinds import KINDS
from epo.data.dialogue import Turn
from epo.evaluation.conversation import Conversation
from epo.model.loading import load_model
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.parts import build_compressor


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mamba"])
def test_a_baseline_takes_the_place_of_a_mamba_compressor(make_model, make_llm, make_extractor, part, kind, tmp_path):
    """A talk gives the same replies from the model in memory and from its folder; only a Mamba is streamed."""
    whole, processor = make_model()
    llm = make_llm()
    compressor = build_compressor(part("mamba2"), 2, llm, "", kind)
    assert type(compressor) is KINDS[kind] and compressor.config.output_size == 32
    names = ("audio_token_id", "video_token_id", "emotion_token_id", "memory_token_id")
    ids = {name: getattr(whole.config, name) for name in names}
    model = EpoForConditionalGeneration.from_parts(llm, make_extractor(), compressor, processor.tokenizer, ids).eval()
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    loaded, its_processor = load_model(str(folder), "float32")
    assert type(loaded.compressor) is KINDS[kind]
    talks = [Conversation(model, processor, max_new_tokens=4), Conversation(loaded, its_processor, max_new_tokens=4)]
    for words in ("I lost my keys.", "Yes."):
        first, second = (talk.say(Turn("user", words)) for talk in talks)
        assert first == second
    assert len(talks[0].turns) == 4


def test_truncation_hands_on_the_words_as_the_language_model_reads_them(make_llm, part):
    llm = make_llm()
    compressor = build_compressor(part("mamba2"), 2, llm, "", "truncate")
    with torch.no_grad():
        read = compressor(input_ids=torch.tensor([[5, 9, 320, 321]])).vectors[0]
    torch.testing.assert_close(read, llm.get_input_embeddings().weight[[5, 9]].detach())

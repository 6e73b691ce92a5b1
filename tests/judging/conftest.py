"""A sentence model of one layer, laid out as sentence-transformers publishes them."""

import json

import pytest
import torch

MODULES = ("Transformer", "Pooling", "Normalize")


@pytest.fixture
def sentence_model(tmp_path, make_tokenizer):
    """Write such a model with other modules, or another pooling, and return its folder."""
    from transformers import BertConfig, BertModel

    def make(modules=MODULES, pooling=None, settings=None, name="sentences"):
        folder, tokenizer = tmp_path / name, make_tokenizer()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=64,
        )  # fmt: skip
        BertModel(config).eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        rows = [
            {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.{kind}"}
            for i, kind in enumerate(modules)
        ]
        (folder / "modules.json").write_text(json.dumps(rows))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        said = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False} if pooling is None else pooling
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
        (folder / "sentence_bert_config.json").write_text(json.dumps({} if settings is None else settings))
        return folder

    return make

"""Going on from an adapter: the policy is what it was, the reference stays what it is, and no other LoRA is taken."""

import pytest
import torch
from peft import get_peft_model

from epo.model.loading import continue_adapter
from epo.part_names import PartError
from epo.training.lora import lora_config


@pytest.fixture
def policy_of(make_model, make_llm):
    def policy_of(rank=4, alpha=8, variant="plain", seed=None, layers=None):
        model, _ = make_model(make_llm(0))
        config = lora_config(model, rank, alpha, 0.0, variant)
        config.target_modules = config.target_modules if layers is None else set(sorted(config.target_modules)[:layers])
        policy = get_peft_model(model, config)
        if seed is not None:
            torch.manual_seed(seed)
            for name, parameter in policy.named_parameters():
                if ".lora_B." in name:
                    parameter.data.normal_(std=0.3)
        return policy.eval()

    return policy_of


def logits(policy):
    with torch.no_grad():
        return policy(input_ids=torch.arange(3, 15).unsqueeze(0)).logits


def test_the_policy_goes_on_and_the_reference_stays(policy_of, tmp_path):
    earlier, fresh = policy_of(seed=1), policy_of()
    earlier.save_pretrained(tmp_path)
    reference = logits(fresh)
    assert not torch.allclose(logits(earlier), reference, atol=1e-3)
    trains = [name for name, parameter in fresh.named_parameters() if parameter.requires_grad]
    continue_adapter(fresh, str(tmp_path))
    assert torch.equal(logits(fresh), logits(earlier))
    with fresh.disable_adapter():
        assert torch.equal(logits(fresh), reference)
    assert trains == [name for name, parameter in fresh.named_parameters() if parameter.requires_grad] != []


def test_another_lora_is_refused(policy_of, tmp_path):
    policy_of(seed=1).save_pretrained(tmp_path)
    for keys, message in (
        ({"rank": 2}, "was trained with r 4, this LoRA has 2; give the recipe its lora_rank"),
        ({"alpha": 4}, "was trained with lora_alpha 8, this LoRA has 4; give the recipe its lora_alpha"),
        ({"variant": "rslora"}, "was trained with use_rslora False, this LoRA has True; give the recipe its lora_var"),
        ({"variant": "dora"}, "was trained with use_dora False, this LoRA has True; give the recipe its lora_variant"),
        ({"layers": 2}, "does not fit the model, which it was not trained on: .* weights are missing, left over or of"),
    ):
        with pytest.raises(PartError, match=message):
            continue_adapter(policy_of(**keys), str(tmp_path))
    with pytest.raises(PartError, match="gone: has no adapter_model.safetensors; make it with launch/epo.py"):
        continue_adapter(policy_of(), str(tmp_path / "gone"))

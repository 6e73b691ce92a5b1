"""Switches a model's LoRA off, so that the model as it was before reads: the reference of EPO."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from trl.trainer.utils import use_adapter


class AdapterSwitch:
    """The layers that a model's adapter sits on, looked up once.

    PEFT's `disable_adapter` first looks at the state of every layer, then walks over all modules twice, to take from
    the adapter's weights the right to train and to give it back. At a step's every batch that is time, and nothing
    that is read without gradient asks for it.
    """

    def __init__(self, policy: PeftModel) -> None:
        """Look up the layers.

        Args:
            policy: with its adapters on it; none is added later.
        """
        self._policy = policy
        # Of a LoRA that was trained before, TRL keeps a copy called "ref": it is the reference then.
        self._has_other = "ref" in policy.peft_config
        self._layers = [module for module in policy.modules() if isinstance(module, BaseTunerLayer)]

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Let the policy be the reference for as long as this is open; what it reads must need no gradient."""
        if self._has_other:
            with use_adapter(self._policy, "ref"):
                yield
            return
        were_off = [layer._disable_adapters for layer in self._layers]
        try:
            for layer in self._layers:
                layer._disable_adapters = True
            yield
        finally:
            for layer, was_off in zip(self._layers, were_off, strict=True):
                layer._disable_adapters = was_off


__all__ = ["AdapterSwitch"]

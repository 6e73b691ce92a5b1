"""A Hugging Face chat model in this process, asked like an endpoint."""

import threading
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from compressor.chat import chat_format
from compressor.decoding import plain_decoding
from compressor.text import PAD, pad_left
from epo.preferences.endpoint import UnusableAnswer
from epo.prompts.layout import question


class LocalChat:
    """Asks a loaded model, one question at a time; a server is faster where there are many (docs/preferences.md)."""

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        temperature: float = 0.7,
        max_tokens: int = 256,
    ) -> None:
        """Take a model that is where it should run.

        Args:
            name: what it was loaded from.
            model: any causal language model.
            tokenizer: the model's, with a chat template.
            temperature: of sampling from all tokens; 0 takes the most likely one. What the checkpoint's own generation
                settings say besides (top-p, penalties) is set aside, so that the answer is the model's at this
                temperature, as an endpoint gives it.
            max_tokens: longest answer.

        Raises:
            ChatTemplateError: the tokenizer has no chat template that fits.
        """
        self.name = name
        settings = {"temperature": temperature, "max_tokens": max_tokens, "decoding": "plain"}
        self.identity: dict[str, Any] = {"model": name, "dtype": str(model.dtype)} | settings
        self._model, self._chat = model.eval(), chat_format(tokenizer)
        self._temperature, self._max_tokens = temperature, max_tokens
        self._lock = threading.Lock()  # the seed is the whole process's, the generation settings the model's

    @torch.no_grad()
    def ask(self, prompt: str, seed: int) -> str:
        """Return the model's reply to one user message; the same for the same seed.

        Raises:
            UnusableAnswer: it said nothing.
        """
        batch = pad_left([question(self._chat, prompt)])
        batch = {name: tensor.to(self._model.device) for name, tensor in batch.items()}
        with self._lock, plain_decoding(self._model, self._temperature) as sampling:
            set_seed(seed)
            ids = self._model.generate(
                **batch,
                **sampling,
                max_new_tokens=self._max_tokens,
                eos_token_id=self._chat.stop_ids,
                pad_token_id=PAD,
            )
        text = self._chat.decode(ids[0, batch["input_ids"].size(1) :].tolist()).strip()
        if text == "":
            raise UnusableAnswer("an empty reply")
        return text

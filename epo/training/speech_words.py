"""A speech encoder taught words beside emotions, since emotions alone make it forget them.

Source: AV-EmoDialog (arXiv 2412.17292) trains its speech encoder on recognition of words and of emotions. Connectionist
temporal classification (Graves et al. 2006) for an encoder without a decoder, and the frozen decoder of a pretrained
Whisper, are our choice.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSpeechSeq2Seq, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutput

from compressor.scheduled_trainer import ScheduledTrainer
from compressor.words import plain_form
from epo.data.cache import ClipCache
from epo.data.selection import TaughtClip
from epo.model.checkpoints import load_weights
from epo.model.clip_reader import ClipFeatures, ClipReader
from epo.model.extractor import EmotionExtractor, ExtractorOutput, emotion_loss
from epo.model.parts import is_config_file
from epo.part_names import PartError, find_part, read_part
from epo.training.collate import emotion_labels

_BLANK = 0


class WordReader(Protocol):
    """What tells words from an audio encoder's states (B, S, D), of which a bool mask (B, S) marks the real ones."""

    def losses(self, states: Tensor, mask: Tensor, texts: Sequence[str | None]) -> Tensor:
        """Return float32 (B,), nats a unit of each text; 0 where there is no text or no sound."""

    def read(self, states: Tensor, mask: Tensor) -> list[str]:
        """Return the likeliest words of each clip, taken greedily."""


class CtcReader(nn.Module):
    """Reads characters off single states; of an encoder that has no decoder."""

    def __init__(self, width: int, texts: Sequence[str]) -> None:
        """Make a head for the characters of some texts, in plain form; others are left out of what is learnt.

        Args:
            width: of the states.
            texts: to learn.
        """
        super().__init__()
        self.characters = sorted({character for text in texts for character in _line(text)})
        self.head = nn.Linear(width, len(self.characters) + 1)

    def losses(self, states: Tensor, mask: Tensor, texts: Sequence[str | None]) -> Tensor:
        """See `WordReader`; a text that is longer than its states cannot be read and adds 0."""
        place = {character: number for number, character in enumerate(self.characters, _BLANK + 1)}
        targets = [[place[c] for c in _line(text or "") if c in place] for text in texts]
        return ctc_losses(self.head(states), mask.sum(dim=1), targets)

    def read(self, states: Tensor, mask: Tensor) -> list[str]:
        """See `WordReader`."""
        best = self.head(states).argmax(dim=-1)
        said = []
        for row, real in zip(best, mask, strict=True):
            ids = torch.unique_consecutive(row[real]).tolist()
            said.append("".join(self.characters[i - 1] for i in ids if i != _BLANK))
        return said


def ctc_losses(logits: Tensor, num_states: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Return the negative log-likelihood of each target over its length, float32 (B,), in nats a unit.

    Args:
        logits: (B, S, C + 1), the blank first.
        num_states: int64 (B,), the real ones.
        targets: units of each row, from 1; 0 is returned where there are none, or more than states can say.
    """
    lengths = torch.tensor([len(target) for target in targets])
    flat = torch.tensor([unit for target in targets for unit in target], dtype=torch.long, device=logits.device)
    log_probs = logits.float().log_softmax(dim=-1).transpose(0, 1)
    losses = functional.ctc_loss(
        log_probs, flat, num_states.cpu(), lengths, blank=_BLANK, reduction="none", zero_infinity=True
    )
    lengths = lengths.to(losses.device)
    return torch.where(lengths > 0, losses / lengths.clamp(min=1), torch.zeros_like(losses))


class DecoderReader:
    """Reads words with the decoder that a pretrained Whisper came with, which stays as it is."""

    def __init__(self, whisper: Any, tokenizer: Any, max_new_tokens: int = 64) -> None:
        """Take a Whisper apart.

        Args:
            whisper: `WhisperForConditionalGeneration`; its encoder is not used.
            tokenizer: its own, set to the language and to transcription.
            max_new_tokens: longest transcript read.
        """
        self._whisper, self._tokenizer = whisper.requires_grad_(False).eval(), tokenizer
        self._max_new_tokens = max_new_tokens
        ids = tokenizer("").input_ids
        self._prefix, self._end = ids[:-1], ids[-1]

    def losses(self, states: Tensor, mask: Tensor, texts: Sequence[str | None]) -> Tensor:
        """See `WordReader`; clip by clip, since Whisper's decoder would read the padding of a batch."""
        found = []
        for row, real, text in zip(states, mask, texts, strict=True):
            if text is None or not real.any():
                found.append(0.0 * row.sum())
                continue
            ids = self._tokenizer(text).input_ids
            logits = self._logits(row[real], ids[:-1])[len(self._prefix) - 1 :]
            found.append(
                functional.cross_entropy(logits.float(), torch.tensor(ids[len(self._prefix) :]).to(row.device))
            )
        return torch.stack(found)

    def read(self, states: Tensor, mask: Tensor) -> list[str]:
        """See `WordReader`."""
        said = []
        for row, real in zip(states, mask, strict=True):
            ids = list(self._prefix)
            while real.any() and len(ids) < len(self._prefix) + self._max_new_tokens:
                best = int(self._logits(row[real], ids)[-1].argmax())
                if best == self._end:
                    break
                ids.append(best)
            said.append(self._tokenizer.decode(ids[len(self._prefix) :], skip_special_tokens=True).strip())
        return said

    def _logits(self, states: Tensor, ids: Sequence[int]) -> Tensor:
        """Return (T, V), what the decoder expects after each id."""
        whisper = self._whisper.to(states.device)
        encoded = BaseModelOutput(last_hidden_state=states.unsqueeze(0))
        given = torch.tensor([ids], device=states.device)
        logits: Tensor = whisper(encoder_outputs=encoded, decoder_input_ids=given, use_cache=False).logits
        return logits[0]


def load_whisper_reader(part: str, language: str | None) -> DecoderReader | None:
    """Return the decoder of a pretrained Whisper, None for another encoder or one that starts from nothing.

    Args:
        part: the audio encoder: hub name, folder or config file.
        language: of the words, such as "de"; None for English.

    Raises:
        PartError: it cannot be found or is not whole, or knows one language alone and another is asked for.
    """
    if is_config_file(part) or read_part(AutoConfig.from_pretrained, find_part(part)).model_type != "whisper":
        return None
    whisper = load_weights(AutoModelForSpeechSeq2Seq, part)
    tokenizer = read_part(AutoTokenizer.from_pretrained, find_part(part))
    if (
        "<|de|>" in tokenizer.get_vocab() and whisper.config.vocab_size > 51864
    ):  # of English alone there is one token less
        tokenizer.set_prefix_tokens(language=language or "en", task="transcribe", predict_timestamps=False)
    elif language not in (None, "en"):
        raise PartError(f"{part}: this Whisper knows English alone; take one of many languages for {language!r}")
    return DecoderReader(whisper, tokenizer)


class SpeechLearner(nn.Module):
    """An extractor and, where words are read by a head of their own, that head."""

    is_gradient_checkpointing = False  # asked by TRL of whatever it unwraps

    def __init__(self, extractor: EmotionExtractor, reader: WordReader) -> None:
        super().__init__()
        self.extractor = extractor
        self.words = reader if isinstance(reader, nn.Module) else None
        self._reader = [reader]  # in a list, so that a frozen decoder is no part of what is trained and saved

    def forward(self, texts: Sequence[str | None], **clips: Tensor) -> tuple[ExtractorOutput, Tensor]:
        """Return what the extractor finds, and `WordReader.losses`.

        Args:
            texts: what is said in each clip; None where that is not known.
            clips: of `EmotionExtractor.forward`.
        """
        output: ExtractorOutput = self.extractor(**clips)
        return output, self._reader[0].losses(output.audio_states, output.audio_state_mask, texts)

    @torch.no_grad()
    def read(self, batch: dict[str, Any]) -> list[str]:
        """Return the words of a batch's clips."""
        output = self.extractor(**batch)
        return self._reader[0].read(output.audio_states, output.audio_state_mask)


class WordsCollator:
    """Batches of the sound of clips, with the emotions and the words that are known of them."""

    def __init__(self, clips: Sequence[TaughtClip], reader: ClipReader, cache: ClipCache) -> None:
        self._clips, self._reader, self._cache = clips, reader, cache

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Build the inputs of `SpeechLearner.forward` and `emotions` (B,)."""
        clips = [self._clips[row["index"]] for row in rows]
        features = [ClipFeatures(self._reader.read(clip.clip, self._cache).audio, None) for clip in clips]
        emotions = emotion_labels([clip.emotion for clip in clips])
        return self._reader.batch(features) | {"emotions": emotions, "texts": [clip.words for clip in clips]}


class SpeechTrainer(ScheduledTrainer):
    """Minimises recognition's loss of emotions plus a weight times that of words; each a mean over all clips."""

    def __init__(self, *args: Any, asr_weight: float, **kwargs: Any) -> None:
        """Make a trainer.

        Args:
            args: of transformers' `Trainer`; its model is a `SpeechLearner`.
            asr_weight: of the words' loss.
            kwargs: of transformers' `Trainer`.
        """
        super().__init__(*args, **kwargs)
        self._asr_weight = asr_weight

    def loss_terms(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, Tensor]:
        """Return `loss`, `emotion_loss`, and `words_nll` in nats a character or token."""
        batch = dict(inputs)
        emotions = batch.pop("emotions")
        output, words = model(**batch)
        emotion, nll = emotion_loss(output, emotions), words.mean()
        return {"loss": emotion + self._asr_weight * nll, "emotion_loss": emotion, "words_nll": nll}


def _line(text: str) -> str:
    """Return a text as it is read: plain form, single blanks."""
    return " ".join(plain_form(text).split())


__all__ = [
    "CtcReader",
    "DecoderReader",
    "SpeechLearner",
    "SpeechTrainer",
    "WordReader",
    "WordsCollator",
    "ctc_losses",
    "load_whisper_reader",
]

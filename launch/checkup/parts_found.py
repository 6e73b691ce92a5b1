"""The parts that a stage names: where each is, how large, and its configuration, before any weight is read."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.configuration import MambaCompressorConfig
from compressor.kinds import KINDS, sizes_of
from epo.model.configuration import EpoConfig, ExtractorConfig
from epo.part_names import PartError, find_part
from launch.checkup import hub
from launch.planning.pipeline_files import StageFiles, Writer


@dataclass(frozen=True)
class PartFound:
    """Where a part is.

    Attributes:
        key: of the recipe.
        name: as the recipe says it.
        place: in words: a folder, the hub's cache, the stage that makes it.
        config: its configuration; None where nothing is known of it.
        size: bytes of its weights on disk; None where there are none yet.
        problem: why it cannot be had, with the remedy; None where it can.
        stored: dtype of its weights on disk; None where that is not known.
    """

    key: str
    name: str
    place: str
    config: Any = None
    size: int | None = None
    problem: str | None = None
    stored: str | None = None


class PartFinder:
    """Finds parts by name, on this machine and among what the stages of a run will make.

    Attributes:
        root: folder of parts; None for what the environment says.
    """

    def __init__(self, files: StageFiles, root: str | None = None) -> None:
        self._files, self.root = files, root

    def find(self, key: str, name: str) -> PartFound:
        """Return where the part is that a key names."""
        try:
            return self._find(key, name)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            return PartFound(key, name, "unusable", problem=f"{key}: {reason[:300]}")

    def _find(self, key: str, name: str) -> PartFound:
        writer = self._files.writer(name)
        folder = local_folder(name, self.root)
        if name.endswith(".json"):
            return PartFound(key, name, "configuration: starts from nothing", read_config(name))
        if folder is not None and (folder / "config.json").is_file():
            place = "folder" if os.path.abspath(folder) == os.path.abspath(name) else f"folder {folder}"
            size, stored = stored_weights(folder)
            return PartFound(key, name, place, read_config(str(folder)), size, stored=stored)
        if folder is not None and (folder / "adapter_config.json").is_file():
            return PartFound(key, name, "folder with a LoRA", size=stored_weights(folder)[0])
        if writer is not None:
            return PartFound(key, name, f"comes from stage {writer.stage}", self.planned(writer))
        plain, _, revision = name.partition("@")
        if _is_hub_name(name) and hub.answers():
            size = hub.weights_size(plain, revision or None)
            return PartFound(key, name, "to be downloaded from the hub", read_config(name), size)
        remedy = f"where there is a connection: hf download {plain}; or name a folder that holds it"
        kind = (
            "neither a folder nor in the hub's cache, and the hub is out of reach" if _is_hub_name(name) else "missing"
        )
        return PartFound(key, name, "missing", problem=f"{key}: {name} is {kind}; {remedy}")

    def planned(self, writer: Writer) -> Any:
        """Return the configuration of the model that a stage of the run makes, None where a part of it is not known."""
        recipe = writer.recipe
        if recipe is None:
            return None
        if writer.script == "extractor.py":
            audio, vision = self._configs(recipe, "audio_encoder", "vision_tower")
            return None if None in (audio, vision) else extractor_of(recipe, audio, vision)
        if writer.script == "compressor.py":
            llm, backbone = self._configs(recipe, "llm", "backbone")
            return None if None in (llm, backbone) else compressor_of(recipe, text_config(llm), backbone)
        if writer.script == "sft.py" and recipe.input == "text":
            return self.find("llm", recipe.llm).config
        if writer.script == "sft.py" and recipe.model is not None:
            return self.find("model", recipe.model).config
        if writer.script == "sft.py":
            llm, extractor, compressor = self._configs(recipe, "llm", "extractor", "compressor")
            found = (llm, extractor, compressor)
            return None if None in found else whole_config(text_config(llm), extractor, compressor)
        return None

    def _configs(self, recipe: Any, *keys: str) -> list[Any]:
        return [self.find(key, getattr(recipe, key)).config for key in keys]


def extractor_of(recipe: Any, audio: Any, vision: Any) -> ExtractorConfig:
    """Return the configuration of the extractor that a recipe builds from two encoders."""
    from launch.extractor import sizes_of

    vision = getattr(vision, "vision_config", vision)
    return ExtractorConfig(audio_config=audio, vision_config=vision, **sizes_of(recipe))


def compressor_of(recipe: Any, llm: Any, backbone: Any) -> MambaCompressorConfig:
    """Return the configuration of the compressor that a recipe builds for a language model."""
    kind = KINDS[recipe.kind].config_class
    sizes = sizes_of(recipe.kind, backbone, llm, llm.vocab_size)
    config: MambaCompressorConfig = kind(
        num_memory_tokens=recipe.num_memory_tokens, output_size=embedding_width(llm), **sizes
    )
    return config


def whole_config(llm: Any, extractor: ExtractorConfig, compressor: MambaCompressorConfig) -> EpoConfig:
    """Return the configuration of the model that three parts make."""
    return EpoConfig(text_config=llm, extractor_config=extractor, compressor_config=compressor)


def embedding_width(llm: Any) -> int:
    """Return the width of a language model's embeddings; of some OPT models not their hidden size."""
    width = getattr(llm, "word_embed_proj_dim", None)
    return int(llm.hidden_size if width is None else width)


def read_config(part: str) -> Any:
    """Return the configuration of a part that lies here; of a multimodal language model that of its text part."""
    from epo.model.parts import _config

    return _config(part)


def text_config(config: Any) -> Any:
    """Return the part of a configuration that reads text."""
    return config.get_text_config()


def local_folder(name: str, root: str | None) -> Path | None:
    """Return the folder that a name stands for: itself, one of the folder of parts, or one of the hub's cache."""
    place = find_part(name, root)
    if place.is_local:
        return Path(place.source) if Path(place.source).is_dir() else None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(place.source, "config.json", revision=place.revision)
    return Path(cached).parent if isinstance(cached, str) else None


def stored_weights(folder: Path) -> tuple[int | None, str | None]:
    """Return the bytes of the weights in a folder, and the dtype of most of them, by the files' headers."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None, None
    try:
        with safe_open(files[0], "pt") as file:
            kinds = [file.get_slice(name).get_dtype() for name in list(file.keys())[:64]]
    except SafetensorError as error:
        raise PartError(f"{files[0]}: is damaged ({error}); get it anew") from error
    return sum(file.stat().st_size for file in files), max(set(kinds), key=kinds.count) if kinds else None


def _is_hub_name(name: str) -> bool:
    parts = name.partition("@")[0].split("/")
    return len(parts) <= 2 and all(part and not part.startswith(".") for part in parts) and not Path(name).exists()


__all__ = [
    "PartFinder",
    "PartFound",
    "compressor_of",
    "embedding_width",
    "extractor_of",
    "local_folder",
    "read_config",
    "stored_weights",
    "text_config",
    "whole_config",
]

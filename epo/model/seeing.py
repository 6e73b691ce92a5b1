"""How frames are seen: which vision towers there are, their image processors, and the states of a frame's patches."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    PreTrainedConfig,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
)

from epo.part_names import PartError

# The Pillow processors, because torchvision is no requirement of the project.
_PROCESSORS = {
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "SiglipImageProcessor": SiglipImageProcessorPil,
    "BitImageProcessor": BitImageProcessorPil,
    "ViTImageProcessor": ViTImageProcessorPil,
}


@dataclass(frozen=True)
class Seeing:
    """A family of vision towers. Its frames are square, and the states of their patches come last, row by row.

    Attributes:
        family: `model_type` of the tower's configuration.
        processor: class of its image processor.
        any_size: whether frames may have another size than the configuration's.
        packs: whether the tower is given patches and not frames (SigLIP 2 in its NaFlex form).
        settings: arguments that leave out what is not used here.
    """

    family: str
    processor: type[Any]
    any_size: bool = False
    packs: bool = False
    settings: tuple[tuple[str, Any], ...] = ()

    def build(self, config: Any) -> nn.Module:
        """Return a tower with fresh weights."""
        tower: nn.Module = AutoModel.from_config(config, **dict(self.settings))
        return tower

    def hold_still(self, tower: nn.Module) -> None:
        """Let nothing train in a tower that is not used here: masks of its pretraining."""
        for name, parameter in tower.named_parameters():
            if name.endswith("mask_token"):
                parameter.requires_grad_(False)

    def frame_size(self, config: Any) -> int:
        """Return the height and width of the frames that a tower was made for."""
        if self.packs:
            return int(math.isqrt(config.num_patches) * config.patch_size)
        return int(config.image_size)

    def make_processor(self, config: Any) -> Any:
        """Return the image processor of a tower that is started from nothing."""
        side = self.frame_size(config)
        size = {"height": side, "width": side}
        sizes = {"size": size} if self.processor is ViTImageProcessorPil else {"size": size, "crop_size": size}
        return self.processor(**sizes, image_mean=[0.5] * 3, image_std=[0.5] * 3)

    def load_processor(self, read: Any, config: Any) -> Any:
        """Return the image processor of a checkpoint, by `read(class)`.

        Raises:
            PartError: it makes frames of another size than the tower reads.
        """
        if self.packs:  # what comes with it keeps each picture's shape; frames of a clip are alike, so they are squares
            return self.make_processor(config)
        processor = read(self.processor)
        height, width = frame_size_of(processor)
        if height != width or not (self.any_size or height == self.frame_size(config)):
            raise PartError(
                f"vision tower of family {self.family!r}: its image processor makes frames of {height} x {width}, the "
                f"tower reads {self.frame_size(config)} x {self.frame_size(config)}; mend preprocessor_config.json"
            )
        return processor

    def patches(self, tower: Any, frames: Tensor) -> Tensor:
        """Return the states of each frame's patches, (N, D, side, side).

        Args:
            tower: of `build`.
            frames: float (N, 3, H, H).
        """
        side = frames.size(-1) // tower.config.patch_size
        states = tower(**self._inputs(frames, side, tower.config.patch_size)).last_hidden_state
        # A class token and registers come before the patches where a family has them.
        found: Tensor = states[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
        return found

    def _inputs(self, frames: Tensor, side: int, patch: int) -> dict[str, Tensor]:
        if not self.packs:
            return {"pixel_values": frames}
        cells = frames.unflatten(3, (side, patch)).unflatten(2, (side, patch))  # (N, 3, row, y, column, x)
        return {
            "pixel_values": cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
            "pixel_attention_mask": torch.ones(len(frames), side**2, dtype=torch.long, device=frames.device),
            "spatial_shapes": torch.full((len(frames), 2), side, device=frames.device),
        }


KINDS = (
    Seeing("clip_vision_model", CLIPImageProcessorPil),
    Seeing("siglip_vision_model", SiglipImageProcessorPil),
    Seeing("siglip2_vision_model", SiglipImageProcessorPil, packs=True),
    Seeing("dinov2", BitImageProcessorPil, any_size=True),
    Seeing("dinov2_with_registers", BitImageProcessorPil, any_size=True),
    Seeing("vit", ViTImageProcessorPil, settings=(("add_pooling_layer", False),)),
)


def tower_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the configuration of the vision tower in that of a model with two, such as CLIP's."""
    found: PreTrainedConfig = getattr(config, "vision_config", config)
    return found


def seeing_of(config: PreTrainedConfig) -> Seeing:
    """Return how a tower of this configuration sees.

    Raises:
        PartError: its family is none of ours.
    """
    for kind in KINDS:
        if kind.family == config.model_type:
            return kind
    known = ", ".join(kind.family.removesuffix("_vision_model") for kind in KINDS)
    raise PartError(f"a vision tower of family {config.model_type!r} is not supported; want one of {known}")


def processor_class(name: str) -> Any:
    """Return the class of a saved image processor by its `image_processor_type`.

    Raises:
        PartError: it belongs to no tower that is supported.
    """
    for known, processor in _PROCESSORS.items():
        if name.startswith(known):
            return processor
    raise PartError(f"a {name} belongs to no vision tower that is supported; want one of {', '.join(_PROCESSORS)}")


def frame_size_of(processor: Any) -> tuple[int, int]:
    """Return height and width of the frames that an image processor makes."""
    crop = getattr(processor, "crop_size", None)
    size = processor.size if crop is None else crop
    return int(size["height"]), int(size["width"])


__all__ = ["KINDS", "Seeing", "frame_size_of", "processor_class", "seeing_of", "tower_config"]

"""Settings of transformers that the project's trainers cannot follow: refused where a trainer is made, not ignored."""

import dataclasses
from collections.abc import Mapping
from typing import Any

FIXED_IN_TRAINING = {
    "train_sampling_strategy": "the schedule says the order; leave it out",
    "length_column_name": "the schedule says the order; leave it out",
    "dataloader_drop_last": "the schedule fills every batch, and nothing is left over; leave it out",
    "data_seed": "the order of the data follows `seed`; set that",
    "label_smoothing_factor": "the stages have losses of their own, without smoothing; leave it out",
    "label_names": "the stages have losses of their own; leave it out",
    "neftune_noise_alpha": "noise on embeddings is no part of any of the stages' losses; leave it out",
    "remove_unused_columns": "collators look rows up by their index; set it to false",
    "use_cache": "training reads no cache; leave it out",
    "use_liger_kernel": "these kernels do not know the project's models; leave it out",
    "liger_kernel_config": "these kernels do not know the project's models; leave it out",
    "logging_nan_inf_filter": "a loss that is not finite ends training, so none is logged; leave it out",
    "auto_find_batch_size": "another micro-batch would be another global batch; set per_device_train_batch_size",
}
"""By key, why its value is fixed, and the remedy."""

_OURS = {"remove_unused_columns": False}
"""What a key must be where that is not transformers' default."""


class FixedSettingError(ValueError):
    """A setting without an effect, or that the trainer cannot follow; the message names the remedy."""


def refuse_changed(values: Mapping[str, Any], kind: type, fixed: Mapping[str, str]) -> None:
    """Refuse settings that were changed although their value is fixed.

    Args:
        values: settings by name; one that this version of transformers does not have is passed over.
        kind: the dataclass they belong to, which knows their defaults.
        fixed: by key, why it is fixed, and the remedy.

    Raises:
        FixedSettingError: names the first of them.
    """
    defaults = {field.name: default_of(field) for field in dataclasses.fields(kind)} | _OURS
    for name, why in fixed.items():
        if name in values and name in defaults and values[name] != defaults[name]:
            raise FixedSettingError(f"{name} is {values[name]!r}, but {why}")


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return what a field is where nobody sets it, None where it must be set."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default

"""Training mode is for what trains: a frozen part neither drops anything nor changes clips."""

from torch import nn


def rest_frozen(module: nn.Module) -> None:
    """Put into evaluation mode what is frozen as a whole in a module, and look further where something trains.

    A layer without weights, such as dropout, goes with the module that holds it.
    """
    trains = [parameter.requires_grad for parameter in module.parameters()]
    if all(trains):
        return
    if not any(trains):
        module.eval()
        return
    for child in module.children():
        rest_frozen(child)

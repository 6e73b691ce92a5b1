"""One of several ranks that train a small network in stages of ZeRO, one run after another: `resharded_rank.py JSON`.

JSON lists runs: the arguments of checkpoint_rank.py, the environment that says the stage, and whether the run is a new
one. In one that goes on, what is not trained starts as zeros, so that the checkpoint has to bring it.
"""

import json
import os
import sys

import checkpoint_rank
import torch
from accelerate.state import AcceleratorState
from torch import nn

from launch import stage


class Network(nn.Module):
    """Sizes that divide by neither two nor three, a weight that is not trained, and a buffer."""

    def __init__(self, is_new=True):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 4))
        self.layers[2].requires_grad_(False)
        self.register_buffer("scale", torch.full((3,), 1.5))
        if not is_new:
            for tensor in (*self.layers[2].parameters(), self.scale):
                nn.init.zeros_(tensor)

    def forward(self, x):
        return self.layers(x) * self.scale.mean()


def main(runs):
    checkpoint_rank.BATCH, checkpoint_rank.PER_DEVICE = 6, 2 if stage.num_ranks() == 1 else 1
    for arguments, environment, is_new in runs:
        AcceleratorState._reset_state()  # each run is a process of its own elsewhere
        os.environ.update(environment)
        checkpoint_rank.make_network = lambda is_new=is_new: Network(is_new)
        checkpoint_rank.main(*arguments)


if __name__ == "__main__":
    stage.main(lambda: main(json.loads(sys.argv[1])), is_stage=False)

"""Lets spawned processes find `rank_bodies.py`, which holds what they run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

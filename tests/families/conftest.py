"""Lets the matrix find `families.py`, its table of tiny models."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

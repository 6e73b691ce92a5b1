"""What a user runs: one script a stage.

Running `launch/epo.py` puts this folder first on `sys.path`, where `epo.py` and `compressor.py` would shadow the
packages of those names. Every script imports from `launch` first, and this module takes the folder off again.
"""

import os
import sys

_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.getcwd()) != _HERE]

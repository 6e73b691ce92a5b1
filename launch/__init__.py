"""What a user runs: one script a stage.

Running `launch/epo.py` puts this folder first on `sys.path`, where `epo.py` and `compressor.py` would shadow the
packages of those names; so does running a script of `benchmarks/`. Every script imports from `launch` first, and this
module takes both folders off again.
"""

import os
import sys

_HERE = os.path.dirname(os.path.realpath(__file__))
_SCRIPTS = (_HERE, os.path.join(os.path.dirname(_HERE), "benchmarks"))
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.getcwd()) not in _SCRIPTS]

"""Make one folder to give away: `python examples/export_model.py MODEL ADAPTER OUT [float32|bfloat16]`.

MODEL is written by launch/sft.py, ADAPTER by launch/epo.py. OUT then holds the merged model, its processor and a model
card, README.md; examples/use_exported.py answers with it, and needs nothing else.
"""

import sys
from pathlib import Path

import epo

model, adapter, out, *dtype = sys.argv[1:]
report = Path(adapter).parent / "eval" / "report.json"
folder = epo.export_model(
    model,
    out,
    adapter=adapter,
    dtype=dtype[0] if dtype else "float32",
    report=str(report) if report.is_file() else None,
)
for file in sorted(folder.iterdir()):
    print(f"{file.name}  {file.stat().st_size:,} bytes")

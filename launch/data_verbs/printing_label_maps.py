"""`data label-maps`: print a label map, or list those that `--labels` knows by name."""

import argparse
import difflib
from collections.abc import Sequence

from epo.data.corpora.listing import label_maps
from launch.recipe import RecipeError


def run(argv: Sequence[str]) -> None:
    """Print a label map as a YAML file that `--labels` takes, or list the maps there are."""
    parser = argparse.ArgumentParser(prog="launch/data.py label-maps", description=run.__doc__)
    parser.add_argument("name", nargs="?", help="a map; without it, all are listed")
    name = parser.parse_args(argv).name
    maps = label_maps()
    if name is None:
        for labels in maps.values():
            print(f"{labels.name:14}{len(labels.emotions):3} labels  {labels.about}")
    elif name in maps:
        print(maps[name].as_yaml(), end="")
    else:
        near = difflib.get_close_matches(name, maps, n=1, cutoff=0.0)[0]
        raise RecipeError(f"no label map {name!r}, the nearest is {near!r}; there are {', '.join(maps)}")

"""One of the gloo processes of test_processes.py, which trains the recipes of a file in turn."""

import json
import sys
from pathlib import Path

import torch

from rekindle.training.recipe import make_recipe
from rekindle.training.train import train


def main() -> None:
    torch.set_num_threads(1)
    trees, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for name, tree in trees.items():
        train(make_recipe(tree), out / name, quiet=True)


if __name__ == "__main__":
    main()

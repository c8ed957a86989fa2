"""One of the gloo processes of test_processes.py."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from rekindle.training.recipe import make_recipe
from rekindle.training.train import train


def main() -> None:
    torch.set_num_threads(1)
    tree, out = json.loads(sys.argv[1]), Path(sys.argv[2])
    train(make_recipe(tree), out, quiet=True)


if __name__ == "__main__":
    main()

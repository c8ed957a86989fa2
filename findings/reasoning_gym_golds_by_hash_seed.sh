#!/usr/bin/env bash
# reasoning-gym 0.1.25: the golds of word_ladder and knight_swap depend on Python's hash seed, at one seed of the data set. The
# questions do not, so two processes show the same problem with different answers to it.
#
# Guess: create_dataset(name, seed=7, size=6) gives the same questions and answers in every process.
# Seen:  over hash seeds 0, 1 and 2 all six questions are the same and up to six of six answers differ.
# Why:   both search over sets of strings or squares, whose order follows the hash.
# Source: the modules word_ladder and knight_swap of the package.
# Who caches golds by (data set, seed), or compares exact texts, has other answers on the next start; the scorers accept all of them.
#
# Fails when the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "reasoning-gym==0.1.25"
cat > "$place/make.py" <<'PYTHON'
import json

import reasoning_gym

made = {}
for name in ("word_ladder", "knight_swap"):
    data = reasoning_gym.create_dataset(name, seed=7, size=6)
    entries = [data[i] for i in range(6)]
    made[name] = [[e["question"] for e in entries], [str(e["answer"]) for e in entries]]
print(json.dumps(made))
PYTHON
for seed in 0 1 2; do
    PYTHONHASHSEED=$seed "$place/venv/bin/python" "$place/make.py" > "$place/$seed.json" 2> /dev/null
done
"$place/venv/bin/python" - "$place" <<'PYTHON'
import json
import sys
from pathlib import Path

runs = [json.loads((Path(sys.argv[1]) / f"{seed}.json").read_text()) for seed in range(3)]
for name, (questions, answers) in runs[0].items():
    other = [sum(a != b for a, b in zip(answers, run[name][1], strict=True)) for run in runs]
    print(f"{name}: answers that differ from those of hash seed 0: {other}; first answer {answers[0]!r}")
    assert all(run[name][0] == questions for run in runs), "the questions differ too"
    assert other[0] == 0 and max(other) > 0, other
print("as it was")
PYTHON

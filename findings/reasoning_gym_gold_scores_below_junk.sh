#!/usr/bin/env bash
# reasoning-gym 0.1.25, propositional_logic: an entry's own answer scores 0, and words without meaning score more.
#
# Guess: score_answer(entry["answer"], entry) is 1 and score_answer("zqxj vwk", entry) is 0 (or the package's usual floor of 0.01).
# Seen:  entry["answer"] is None, which scores 0.0; "zqxj vwk" scores 0.05, and 0.25 on the first entry; the right answer is in
#        entry["metadata"]["example_answer"] and scores 1.0.
# So "grade the gold against itself" says that no answer is right, and a policy is paid for any text at all.
#
# Fails when the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "reasoning-gym==0.1.25"
"$place/venv/bin/python" - <<'PYTHON'
import reasoning_gym

data = reasoning_gym.create_dataset("propositional_logic", seed=3, size=5)
for i in range(5):
    entry = data[i]
    own = data.score_answer(entry["answer"], entry)
    junk = data.score_answer("zqxj vwk", entry)
    example = data.score_answer(entry["metadata"]["example_answer"], entry)
    print(f"entry {i}: answer {entry['answer']} scores {own}, junk {junk}, the example in the metadata {example}")
    assert entry["answer"] is None and own == 0.0 and junk >= 0.05 and example == 1.0
print("as it was")
PYTHON

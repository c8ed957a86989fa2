#!/usr/bin/env bash
# datasets 5.2.0: a split without rows is written by save_to_disk, and cannot be read back: load_from_disk ends in a bare IndexError
# that names neither the directory nor the reason.
#
# Guess: load_from_disk gives a dataset of 0 rows with its columns, as from_dict does.
# Seen:  save_to_disk writes dataset_info.json and state.json and no data file; load_from_disk raises "list index out of range".
#        A DatasetDict with one empty split (a filter that kept nothing) loses all its splits that way.
# Source: datasets/arrow_dataset.py of the installed package (save_to_disk, load_from_disk).
#
# Fails when the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "datasets==5.2.0"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - "$place" 2> /dev/null <<'PYTHON'
import sys
from pathlib import Path

from datasets import Dataset, DatasetDict, load_from_disk

place = Path(sys.argv[1])
full, empty = Dataset.from_dict({"prompt": ["1+1="]}), Dataset.from_dict({"prompt": []})
full.save_to_disk(place / "full")
empty.save_to_disk(place / "empty")
DatasetDict(train=full, test=empty).save_to_disk(place / "both")


def read(name: str) -> str:
    try:
        return str(load_from_disk(place / name)).replace("\n", " ")
    except IndexError as error:
        return f"IndexError: {error}"


for name in ("full", "empty", "both"):
    print(f"{name}: {read(name)}")
print("files of the empty one:", sorted(path.name for path in (place / "empty").iterdir()))
assert empty.num_rows == 0
assert read("full").startswith("Dataset(")
assert read("empty") == read("both") == "IndexError: list index out of range"
print("as it was")
PYTHON

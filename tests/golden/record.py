"""What the golden set holds, computed through the command line and files alone.

Each `record_*` works in an empty directory and returns plain data; `python record.py` writes all of
it beside this file (`make golden-renew`).
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
import yaml
from safetensors.torch import load_file
from settings import VARIANTS, recipe_of

from rekindle.cli.main import app

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INPUTS = HERE / "inputs"
STUDIES = ROOT / "results" / "studies"
EVALS = {"countdown-s0": "3,4", "addition-s1": "2,4"}
PAGE_OF_RUN, PAGE_OF_STUDY = "lens", "lens_confirm"


def rekindle(*words: Any) -> str:
    """Run a command in this process; what it printed on standard output."""
    said, before = io.StringIO(), sys.argv
    sys.argv = ["rekindle", *map(str, words)]  # runs and pages name the command
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            app(sys.argv[1:], standalone_mode=False)
    finally:
        sys.argv = before
    return said.getvalue()


def environment() -> dict[str, Any]:
    """What decides the last bits of a number."""
    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def methods() -> dict[str, str]:
    """Every method and the recipe section that configures it, and the variants."""
    lines = [line.split() for line in rekindle("methods").splitlines()]
    sections = {words[0]: words[2].rstrip(":") for words in lines if words}
    return sections | {name: sections[method] for name, (method, _) in VARIANTS.items()}


# --- training


def train(name: str, section: str, place: Path) -> Path:
    """The run directory of three steps of a method."""
    recipe = place / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(name, section, str(INPUTS / "pairs.jsonl"))))
    rekindle("train", recipe, "--out", place / "run", "--quiet")
    return place / "run"


def record_run(name: str, section: str, place: Path) -> dict[str, Any]:
    """Weights, metrics and rollouts of three steps of a method."""
    run = train(name, section, place)
    final = next(run.glob("final/*.safetensors"))
    samples, rounds = run / "samples.jsonl", run / "stages" / "rounds.jsonl"
    rows = {path.parent.name: path for path in sorted(run.glob("stages/*/rows.jsonl"))}
    evaluated = json.loads((run / "eval.json").read_text())["metrics"]
    return {
        "weights": {"sha256": sha256(final), "tensors": summaries(final)},
        "metrics": [untimed(row) for row in read_rows(run / "metrics.jsonl")],
        "eval": {name: found["value"] for name, found in evaluated.items()},
        "samples": samples_of(samples) if samples.exists() else None,
        "rounds": [untimed(row) for row in read_rows(rounds)] if rounds.exists() else None,
        "stages": [path.name for path in sorted(run.glob("stages/*")) if path.is_dir()],
        "stage_rows": {name: {"sha256": sha256(path)} for name, path in rows.items()},
    }


def summaries(path: Path) -> dict[str, list[float]]:
    """Tensor -> its sum, L2 norm and projection on a fixed random direction, and its size; fp64."""
    out = {}
    for name, tensor in sorted(load_file(path).items()):
        flat = tensor.double().flatten().numpy()
        direction = np.random.default_rng(0).standard_normal(flat.size)
        out[name] = [
            float(flat.sum()),
            float(np.sqrt((flat * flat).sum())),
            float((flat * direction).sum()),
            flat.size,
        ]
    return out


def samples_of(path: Path) -> dict[str, Any]:
    """The file's hash, that of its texts alone, and how many rows."""
    rows = read_rows(path)
    texts = json.dumps([[row.get("prompt"), row.get("text")] for row in rows])
    return {"sha256": sha256(path), "texts": _digest(texts.encode()), "rows": len(rows)}


def record_reward(place: Path) -> dict[str, Any]:
    """Three steps of a reward model, with either loss."""
    out = {}
    for loss in ("correctness", "bradley_terry"):
        words = ["--task", "countdown", "--levels", "3", "--model", "testbed/countdown-s0"]
        sets = ["optim.steps=3", "optim.problems=8", "data.problems=12", "data.samples=4"]
        sets += ["data.held_out=6", "seed=7", "device.threads=1", "model.dtype=float64"]
        flags = [word for text in sets for word in ("--set", text)]
        run = place / loss
        rekindle("reward", "train", *words, "--loss", loss, "--out", run, "--quiet", *flags)
        final = next(run.glob("final/*.safetensors"))
        out[loss] = {
            "weights": {"sha256": sha256(final), "tensors": summaries(final)},
            "metrics": [untimed(row) for row in read_rows(run / "metrics.jsonl")],
            "eval": untimed(json.loads((run / "final" / "eval.json").read_text())),
        }
    return out


# --- explain, grade, eval


def record_explain(place: Path) -> dict[str, Any]:
    """What each formula makes of the rows in `inputs/`."""
    out: dict[str, Any] = {}
    for name, section in methods().items():
        if section in _GROUPS and name not in VARIANTS:
            out[f"advantages {name}"] = _explained(place, "advantages", "groups", method=name)
    for text in _SETTINGS:
        method, *sets = text.split()
        out[f"advantages {text}"] = _explained(place, "advantages", "groups", *sets, method=method)
    for method, rows, sets in _PAIRS:
        label = " ".join(["pairs", method, *sets])
        out[label] = _explained(place, "pairs", rows, *sets, method=method)
    for sets in ([], ["mode=code"], ["alpha=0.2", "beta=0.7", "gamma=2.0"]):
        out[" ".join(["curriculum", *sets])] = _explained(place, "curriculum", "entropies", *sets)
    return out


_GROUPS = ("grpo", "lens", "hero", "blend", "nsr", "ngrpo", "rl_zvp")
_SETTINGS = (
    "grpo scale=leave_one_out",
    "lens neg_scale=unit alpha=1.0",
    "lens difficulty=raw",
    "lens scale=none",
    "hero scale=none",
    "hero weight_on=reward scale=none",
    "hero missing_rm=verifier",
    "naive_blend squash=true scale=none",
    "gated alpha=0.2",
    "ngrpo virtual=3",
    "rl_zvp a=0.5",
)
_PAIRS = (
    ("self_rewarding", "rounds", []),
    ("self_rewarding", "rounds", ["ties=shortest"]),
    ("temporal", "rounds", []),
    ("temporal_past", "rounds", []),
    ("temporal_future", "rounds", []),
    ("weak_to_strong", "questions", []),
    ("weak_to_strong", "questions", ["tau_chosen=0.3", "tau_rejected=0.3", "max_pairs=3"]),
)


def _explained(place: Path, what: str, rows: str, *sets: str, method: str = "") -> list[Any]:
    source, target = INPUTS / f"{rows}.jsonl", place / "explained.jsonl"
    flags = [word for text in sets for word in ("--set", text)]
    named = ["--method", method] if method else []
    rekindle("explain", what, *named, "--input", source, "--output", target, "--overwrite", *flags)
    given = read_rows(source)
    found = read_rows(target)
    if len(given) == len(found):  # the input's own columns are in inputs/
        found = [
            {key: value for key, value in row.items() if key == "id" or key not in old}
            for row, old in zip(found, given, strict=True)
        ]
    return found


def record_grade(place: Path) -> dict[str, Any]:
    """Score and reason of each row of `inputs/answers.jsonl`."""
    out = {}
    for verifier in ("exact", "numeric", "math"):
        target = place / f"{verifier}.jsonl"
        words = ["--input", INPUTS / "answers.jsonl", "--output", target, "--workers", 1]
        rekindle("grade", "--verifier", verifier, *words, "--timeout", 60)
        out[verifier] = [
            [row["gold"], row["text"], row["score"], row["reason"]] for row in read_rows(target)
        ]
    return out


def record_eval(name: str, place: Path) -> dict[str, Any]:
    """`rekindle eval` of a model; addition's is pulled away from a weaker one."""
    words = ["--model", f"testbed/{name}", "--task", name.split("-")[0], "--levels", EVALS[name]]
    words += ["--problems", "6", "--samples", "4", "--seed", "3"]
    words += ["--weak", "testbed/addition-s0-early"] if name.startswith("addition") else []
    rekindle("eval", *words, "--out", place / "eval.json")
    return untimed(json.loads((place / "eval.json").read_text()))


# --- studies and pages


def record_study(name: str, place: Path) -> dict[str, Any]:
    """A committed study's results, computed again where its outcomes are archived.

    Without an archive, the text of its page, which has its tables.
    """
    source = STUDIES / name
    if not (source / "runs.jsonl.xz").exists():
        return {"page": page_text(source, place)}
    target = place / name
    rekindle("study", source / "study.yaml", "--out", target, "--from", source, "--quiet")
    found = json.loads((target / "study.json").read_text())
    for arm in found["arms"].values():
        del arm["runs"]
    volatile = ("changes", "commit", "dirty", "command", "cost")
    return {key: value for key, value in found.items() if key not in volatile}


def studies() -> list[str]:
    """The committed studies."""
    return sorted(path.parent.name for path in STUDIES.glob("*/study.json"))


def record_page_of_run(place: Path) -> list[str]:
    """The text of the page of a run whose clock stood still."""
    run = train(PAGE_OF_RUN, methods()[PAGE_OF_RUN], place)
    rows = read_rows(run / "metrics.jsonl")
    still = [{k: 0.25 if k.startswith("time/") else v for k, v in row.items()} for row in rows]
    text = "".join(json.dumps(row) + "\n" for row in still)
    (run / "metrics.jsonl").write_text(text)
    pieces = page_text(run, place)
    return pieces[: pieces.index("Code and environment")]  # versions, dates, and what machine


def page_text(of: Path, place: Path) -> list[str]:
    """The words of a report's page, one piece of text a line."""
    page = place / "page.html"
    rekindle("report", of, "--out", page)
    text = re.sub(r"(?s)<!--.*?-->|<(script|style)\b.*?</\1>", " ", page.read_text())
    pieces = [
        html.unescape(piece).strip() for piece in re.sub(r"(?s)<[^>]*>", "\n", text).split("\n")
    ]
    return [_lasting(piece, place) for piece in pieces if piece]


_VOLATILE = (
    (
        re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?"),
        "DATE",
    ),
    (re.compile(r"\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{7,64}\b"), "HASH"),
    (re.compile(r"commit HASH, changed"), "commit HASH"),
    (re.compile(r"\b\d+\.\d+\.\d+(?=, commit)|(?<=rekindle )\d+\.\d+\.\d+"), "VERSION"),
)


def _lasting(piece: str, place: Path) -> str:
    piece = piece.replace(str(place), "PLACE").replace(str(ROOT), "ROOT")
    for pattern, word in _VOLATILE:
        piece = pattern.sub(word, piece)
    return piece


# --- reading and writing


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of metrics, or an evaluation, without what the clock says."""
    return {k: v for k, v in row.items() if k != "time" and not k.startswith("time/")}


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    return _digest(path.read_bytes())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def parts() -> dict[str, dict[str, Callable[[Path], Any]]]:
    """File of the golden set -> key -> what records it in an empty directory."""
    sections = methods()
    runs = {name: partial(record_run, name, section) for name, section in sections.items()}
    return {
        "environment": {"environment": lambda _: environment()},
        "methods": runs,
        "reward": {"reward": record_reward},
        "explain": {"explain": record_explain},
        "grade": {"grade": record_grade},
        "eval": {name: partial(record_eval, name) for name in EVALS},
        "studies": {name: partial(record_study, name) for name in studies()},
        "pages": {
            "run": record_page_of_run,
            "study": partial(page_text, STUDIES / PAGE_OF_STUDY),
        },
    }


def recorded(record: Callable[[Path], Any]) -> Any:
    """What a recorder returns, as JSON gives it back."""
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        return json.loads(json.dumps(record(Path(place))))


def text_of(value: Any, depth: int = 0) -> str:
    """JSON with sorted keys: a line each for what is not deep inside."""
    lines = isinstance(value, list | dict) and value and depth < 4
    if not lines or (isinstance(value, list) and not isinstance(value[0], dict | list | str)):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, dict):
        inner = [f"{json.dumps(k)}: {text_of(value[k], depth + 1)}" for k in sorted(value)]
        return "{\n" + ",\n".join(inner) + "\n}"
    return "[\n" + ",\n".join(text_of(item, depth + 4) for item in value) + "\n]"


def main(target: Path) -> None:
    """Write the golden set."""
    torch.set_num_threads(1)
    for name, recorders in parts().items():
        since = time.monotonic()
        found = {key: recorded(record) for key, record in recorders.items()}
        (target / f"{name}.json").write_text(text_of(found) + "\n")
        print(f"{name}: {len(found)} in {time.monotonic() - since:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)

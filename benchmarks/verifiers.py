"""Verifiers against peers on the same graded answers: what each accepts wrongly and loses.

    python benchmarks/verifiers.py                     ours, and math-verify alone
    python benchmarks/verifiers.py --peers lm-eval     where lm-eval[math] is installed
    python benchmarks/verifiers.py --peers inspect-ai  where inspect-ai is installed
    python benchmarks/verifiers.py --table             the table of docs/rewards.md

Each call replaces its own rows of results/verifiers.json. The sets: `handed` of tests/rewards/
battery; `battery`: comparing and reading of the package; and rewardlint's cases but those that it
calls contested. A peer sees the answer of the gold and the text; only ours are told that a text
was cut or begins inside a thought. Each peer's code is called as its own tasks and scorers call it:

Ours were mended on these rows until they had no error on them: their figures are no estimate.

    math-verify      verify(parse(gold), parse(text))
    lm-eval gsm8k    the task's two filters, then `exact_match` with the task's settings
    lm-eval minerva  `process_results` of minerva_math: its keys exact_match and math_verify
    inspect-ai       the scorers match(), match(numeric=True), answer("line"), math(); where one
                     raises, the text is not accepted
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from _machine import describe

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "verifiers.json"
PACKAGED = ROOT / "src" / "rekindle" / "rewards" / "probing" / "battery"
FILES = (
    *(PACKAGED / f"{name}.jsonl" for name in ("comparing", "reading")),
    ROOT / "tests" / "rewards" / "battery" / "handed.jsonl",
)


class Row(NamedTuple):
    """A graded answer."""

    kind: str  # the verifier that it is for; "all" of rewardlint's cases
    gold: str
    text: str
    right: bool
    cut: bool = False
    thought_open: bool = False


Accepts = Callable[[list[Row]], list[bool]]


class Verifier(NamedTuple):
    """Something that accepts answers or not, and the kinds of rows that it is made for."""

    name: str
    kinds: tuple[str, ...]
    accepts: Accepts


def read_sets() -> dict[str, list[Row]]:
    """The rows of each set, golds as answers."""
    from rewardlint import load

    from rekindle.rewards.verifiers.verify import gold_answer

    sets: dict[str, list[Row]] = {"handed": [], "battery": [], "rewardlint": []}
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            how = (row.get("cut", False), row.get("thought_open", False))
            gold = gold_answer(str(row["gold"]))
            name = "handed" if path.stem == "handed" else "battery"
            sets[name].append(Row(row["verifier"], gold, row["text"], row["score"] == 1, *how))
    sets["rewardlint"] = [Row("all", c.reference, c.completion, c.expect) for c in load()]
    return sets


# --- ours, and math-verify alone


def ours(verifier: str) -> Accepts:
    """`exact`, `numeric` or `math`, in workers as in a run."""

    def accepts(rows: list[Row]) -> list[bool]:
        from rekindle.rewards.verifiers.verify import Settings
        from rekindle.rewards.workers import VerifierPool

        pool = VerifierPool(verifier, timeout=30.0)
        how = [Settings(cut=row.cut, thought_open=row.thought_open) for row in rows]
        scores = pool.grade([(row.gold, row.text) for row in rows], how)
        pool.close()
        return [score.value == 1.0 for score in scores]

    return accepts


def math_verify_alone(rows: list[Row]) -> list[bool]:
    """With its own defaults."""
    from math_verify import parse, verify

    return [bool(verify(parse(f"${row.gold}$"), parse(row.text))) for row in rows]


# --- lm-eval


def gsm8k(filter_name: str) -> Accepts:
    """The filter and the metric as gsm8k.yaml has them."""

    def accepts(rows: list[Row]) -> list[bool]:
        import lm_eval
        import yaml
        from lm_eval.api.metrics import exact_match_hf_evaluate
        from lm_eval.filters.extraction import RegexFilter

        place = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
        task = yaml.safe_load(place.read_text())
        steps = next(f for f in task["filter_list"] if f["name"] == filter_name)["filter"]
        settings = {key: value for key, value in steps[0].items() if key != "function"}
        taken = RegexFilter(**settings).apply([[row.text] for row in rows], [{}] * len(rows))
        (metric,) = task["metric_list"]
        keys = ("regexes_to_ignore", "ignore_case", "ignore_punctuation")
        how = {key: metric[key] for key in keys}
        return [
            bool(exact_match_hf_evaluate([first[0]], [row.gold], **how)["exact_match"])
            for first, row in zip(taken, rows, strict=True)
        ]

    return accepts


def minerva(key: str) -> Accepts:
    """`process_results` of minerva_math on a solution that ends in the gold's box."""

    def accepts(rows: list[Row]) -> list[bool]:
        from lm_eval.tasks.minerva_math.utils import normalize_final_answer, process_results

        accepted = []
        for row in rows:
            solution = rf"$\boxed{{{row.gold}}}$"
            document = {"solution": solution, "answer": normalize_final_answer(row.gold)}
            accepted.append(process_results(document, [row.text])[key] == 1)
        return accepted

    return accepts


# --- inspect-ai


def inspect_scorer(name: str, *values: object, **settings: object) -> Accepts:
    """A scorer by its name in `inspect_ai.scorer`."""

    def accepts(rows: list[Row]) -> list[bool]:
        import inspect_ai.scorer

        scorer = vars(inspect_ai.scorer)[name](*values, **settings)
        return asyncio.run(_all_scored(scorer, rows))

    return accepts


async def _all_scored(scorer: Callable[..., object], rows: list[Row]) -> list[bool]:
    from inspect_ai.model import ModelName, ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState

    from rekindle.rewards.verifiers.verify import UNREADABLE

    accepted = []
    for number, row in enumerate(rows):
        model = ModelName("mockllm/model")
        state = TaskState(model=model, sample_id=number, epoch=0, input="", messages=[])
        state.output = ModelOutput.from_content("mockllm/model", row.text)
        try:
            score = await scorer(state, Target(row.gold))
        except UNREADABLE as error:  # inspect-ai 0.3.285's math() does, on some sets
            print(f"{type(error).__name__}: {error} <- {row.gold!r}, {row.text[-80:]!r}")
            score = None
        accepted.append(score is not None and score.value == "C")
    return accepted


NUMBERS, FORMULAS, TEXTS = ("numeric",), ("numeric", "math"), ("exact",)
VERIFIERS = {
    "ours": (
        Verifier("rekindle exact", (*TEXTS, "all"), ours("exact")),
        Verifier("rekindle numeric", (*NUMBERS, "all"), ours("numeric")),
        Verifier("rekindle math", ("math", "all"), ours("math")),
        Verifier("math-verify", (*FORMULAS, "all"), math_verify_alone),
    ),
    "lm-eval": (
        Verifier("lm-eval gsm8k strict-match", (*NUMBERS, "all"), gsm8k("strict-match")),
        Verifier("lm-eval gsm8k flexible-extract", (*NUMBERS, "all"), gsm8k("flexible-extract")),
        Verifier("lm-eval minerva_math exact_match", (*FORMULAS, "all"), minerva("exact_match")),
        Verifier("lm-eval minerva_math math_verify", (*FORMULAS, "all"), minerva("math_verify")),
    ),
    "inspect-ai": (
        Verifier("inspect-ai match()", (*TEXTS, "all"), inspect_scorer("match")),
        Verifier('inspect-ai answer("line")', (*TEXTS, "all"), inspect_scorer("answer", "line")),
        Verifier(
            "inspect-ai match(numeric=True)",
            (*NUMBERS, "all"),
            inspect_scorer("match", numeric=True),
        ),
        Verifier("inspect-ai math()", (*FORMULAS, "all"), inspect_scorer("math")),
    ),
}
PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy", "lm-eval", "inspect-ai", "rewardlint")


def measure(group: str) -> list[dict[str, object]]:
    """A row for each set, kind and verifier of a group."""
    measured: list[dict[str, object]] = []
    for name, rows in read_sets().items():
        for verifier in VERIFIERS[group]:
            for kind in verifier.kinds:
                asked = [row for row in rows if row.kind == kind]
                if not asked:
                    continue
                accepted = verifier.accepts(asked)
                pairs = list(zip(asked, accepted, strict=True))
                measured.append(
                    {
                        "set": name,
                        "kind": kind,
                        "verifier": verifier.name,
                        "n": len(asked),
                        "wrong": sum(not row.right for row in asked),
                        "false_accepts": sum(yes and not row.right for row, yes in pairs),
                        "lost": sum(row.right and not yes for row, yes in pairs),
                    }
                )
                print(measured[-1], flush=True)
    return measured


def versions() -> dict[str, str]:
    """Of the packages that are installed here."""
    here = {}
    for package in PACKAGES:
        try:
            here[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return here


def save(group: str, measured: list[dict[str, object]]) -> None:
    """Replace a group's part of the results."""
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"benchmark": "verifiers"}
    before[group] = {
        "command": shlex.join(["python", "benchmarks/verifiers.py", *sys.argv[1:]]),
        "packages": versions(),
        "machine": describe(),
        "rows": measured,
    }
    RESULTS.write_text(json.dumps(before, indent=1) + "\n")


def table() -> str:
    """Markdown: a row for each set and kind of rows, the fewest errors in bold, ties too."""
    saved = json.loads(RESULTS.read_text())
    rows = [row for group in VERIFIERS for row in saved.get(group, {"rows": []})["rows"]]
    lines = ["| set | rows for | verifier | wrong accepted | right lost |", "|---|---|---|---|---|"]
    for key in dict.fromkeys((row["set"], row["kind"]) for row in rows):
        same = [row for row in rows if (row["set"], row["kind"]) == key]
        least = [min(row[error] for row in same) for error in ("false_accepts", "lost")]
        for row in same:
            wrong, right = row["wrong"], row["n"] - row["wrong"]
            cells = [
                f"**{row[error]}** of {count}" if row[error] == few else f"{row[error]} of {count}"
                for error, count, few in zip(
                    ("false_accepts", "lost"), (wrong, right), least, strict=True
                )
            ]
            lines.append(f"| {key[0]} | {key[1]} | `{row['verifier']}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure a group, or print the table of what was measured."""
    if "--table" in arguments:
        print(table())
        return
    group = arguments[1] if arguments[:1] == ["--peers"] else "ours"
    save(group, measure(group))


if __name__ == "__main__":
    main(sys.argv[1:])

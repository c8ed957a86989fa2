"""The seed of self-rewarding: SFT on instructions (solved problems) and judge data.

Judge data are a judge's prompts with the replies that it should have given. They come from a file,
or are made by the task's verifier: the model's own answers, graded, to problems that no round uses.

    scale: verifier   right 5, wrong 0 (partial scores in between)
    scale: steps      wrong answers get 0 to 4 by the share of their leading steps that are right,
                      steps being what `;` and `,` divide in the reference solution
    scale: equations  wrong answers get 0 to 2 by the share of their leading equations that are
                      true, whatever the reference: for tasks with many solutions

The commonest score is thinned out until it is no more than the others together (2401.10020, 2.4.1
thins out the commonest as well).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from pydantic import Field

from rekindle.engine.config import OptimConfig, Section
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.errors import DataError
from rekindle.files import read_jsonl
from rekindle.loops.stages import StageRows, Stages
from rekindle.loops.world import World
from rekindle.methods.self_rewarding.judging import JudgeConfig
from rekindle.records import Problem, Score
from rekindle.rewards.judge import HIGHEST, Format, format_of
from rekindle.tasks.task import grade_all

_STEP = re.compile(r"[;,]")
_EQUATION = re.compile(r"(\d{1,6})([-+*/])(\d{1,6})=(\d{1,6})", re.ASCII)
_APPLY = {
    "+": int.__add__,
    "-": int.__sub__,
    "*": int.__mul__,
    "/": lambda a, b: a // b if b and a % b == 0 else None,
}
_VALID = 2.0  # points of a wrong answer whose equations are all true


class SeedConfig(Section):
    """The stage before the first round; left out with `steps: 0`."""

    steps: int = Field(default=0, ge=0, description="updates; both papers train to M_0 first")
    lr: float = Field(default=1e-3, gt=0.0, description="testbed; 2508.06026: 2e-6 at 8B")
    batch: int = Field(default=64, ge=1, description="samples a step; 2508.06026: 32")
    instructions: int = Field(default=512, ge=0, description="solved problems")
    judged: int = Field(default=1024, ge=0, description="problems whose answers are graded")
    answers: int = Field(default=4, ge=1, description="graded answers of each; 2508.06026: 4")
    scale: Literal["verifier", "steps", "equations"] = Field(
        default="verifier", description="see the module"
    )
    path: str | None = Field(
        default=None,
        description="JSONL of prompt, response, judgement, instead of graded answers; or another "
        "run's stages/01-judge-data/rows.jsonl",
    )

    def optim(self, shared: OptimConfig, steps: int) -> OptimConfig:
        """The optimizer of so many SFT steps."""
        own = {"steps": steps, "lr": self.lr, "problems": self.batch}
        return shared.model_copy(update=own)


# --- judge data


class JudgeDataRow(TypedDict):
    """An answer to a prompt, and the reply that a judge should give of it."""

    id: str
    prompt: str
    text: str
    reply: str
    points: NotRequired[int]  # where a verifier graded it
    source: NotRequired[str]


def judge_problems(
    config: SeedConfig,
    judge: JudgeConfig,
    stages: Stages,
    policy: Policy,
    pool: Sequence[Problem],
) -> list[Problem]:
    """Judge prompts as problems whose solution is the reply; a stage of rows."""
    form = format_of(judge.format)
    if config.path is not None:
        return [_problem(form, row) for row in _from_file(Path(config.path), form)]
    source = weights_fingerprint(policy)
    inputs = {
        "problems": [problem.id for problem in pool],
        "answers": config.answers,
        "scale": config.scale,
        "format": form.name,
        "seed": stages.world.seed,
    }
    rows = stages.rows(
        "judge-data",
        inputs=inputs,
        sources={"start": source},
        make=lambda: _graded(config, form, stages.world, policy, pool, source),
    )
    return [_problem(form, row) for row in rows]


def _graded(
    config: SeedConfig,
    form: Format,
    world: World,
    policy: Policy,
    pool: Sequence[Problem],
    source: str,
) -> StageRows[JudgeDataRow]:
    rollouts = world.shared_sampler_for(policy).sample(
        pool, samples=config.answers, config=world.sample, seed=world.seed + 7_919
    )
    verdicts = grade_all(world.task, [rollout.response for rollout in rollouts])
    rows: list[JudgeDataRow] = []
    seen = set[tuple[str, str]]()
    dropped = Counter[str]()
    for rollout, verdict in zip(rollouts, verdicts, strict=True):
        key = (rollout.problem.id, rollout.text)
        if key in seen:
            dropped["the same answer again"] += 1
        elif verdict.value is None:
            dropped["no verdict"] += 1
        else:
            points, work = graded(rollout.problem, rollout.text, verdict, scale=config.scale)
            rows.append(
                {
                    "id": f"{rollout.problem.id}/judge{rollout.sample}",
                    "prompt": rollout.problem.prompt,
                    "text": rollout.text,
                    "reply": reply_of(form, points, work),
                    "points": points,
                    "source": source,
                }
            )
        seen.add(key)
    kept = thinned(rows, seed=world.seed)
    dropped["of the commonest score"] = len(rows) - len(kept)
    counts = Counter(row["points"] for row in kept)
    facts = {"points": {str(points): counts[points] for points in sorted(counts)}}
    return StageRows(kept, dropped, sum(len(r.tokens) for r in rollouts), facts)


def graded(problem: Problem, text: str, verdict: Score, *, scale: str) -> tuple[int, str]:
    """Points from 0 to 5 by the verifier, and what a judge writes to get there.

    With scale `steps`: the right result of each step, and Y or N as the answer has that step; with
    `equations` the same of the answer's own equations. 5 is what the verifier accepts, and nothing
    else.
    """
    value = 0.0 if verdict.value is None else verdict.value
    if scale == "equations":
        results, same = _equations(text)
        points = HIGHEST if value >= 1 else _VALID * _leading(same) / max(1, len(same))
        return int(points), _work(results, same)
    if scale == "verifier" or problem.solution is None:
        return round(HIGHEST * value), ""
    wanted, given = _STEP.split(problem.solution), _STEP.split(text)
    same = [a == b for a, b in zip(wanted, given, strict=False)]
    same += [False] * (len(wanted) - len(same))
    results = [step.rpartition("=")[2].replace(" ", "") for step in wanted]
    if value >= 1:
        return int(HIGHEST), _work(results, same)
    points = min(int(HIGHEST * _leading(same) / len(wanted)), int(HIGHEST) - 1)
    return points, _work(results, same)


def _equations(text: str) -> tuple[list[str], list[bool]]:
    """What each equation should give ("" where it is none, or not a whole number), and if it does.

    What follows something that is no equation is not read.
    """
    results: list[str] = []
    same: list[bool] = []
    for part in _STEP.split(text.strip()):
        match = _EQUATION.fullmatch(part)
        if match is None:
            return [*results, ""], [*same, False]
        a, op, b, given = int(match[1]), match[2], int(match[3]), int(match[4])
        result = _APPLY[op](a, b)
        results.append("" if result is None or result < 0 else str(result))
        same.append(result == given)
    return results, same


def _leading(same: Sequence[bool]) -> int:
    return same.index(False) if False in same else len(same)


def _work(results: Sequence[str], same: Sequence[bool]) -> str:
    return "".join(f"{r}{'Y' if ok else 'N'}" for r, ok in zip(results, same, strict=True))


def reply_of(form: Format, points: int, work: str) -> str:
    """The reply that a judge should have given: its work, then the score."""
    if form.name == "marker":
        return f"{work}{points}"
    reasons = work or ("The result is right." if points == HIGHEST else "The result is wrong.")
    return f"{reasons}\nScore: {points}"


def thinned(rows: Sequence[JudgeDataRow], *, seed: int) -> list[JudgeDataRow]:
    """The rows in their order, of the commonest score no more than of all others together."""
    counts = Counter(row["points"] for row in rows)
    if len(counts) < 2:
        return list(rows)
    [(common, times)] = counts.most_common(1)
    room = min(times, len(rows) - times)
    commonest = [i for i, row in enumerate(rows) if row["points"] == common]
    kept = set(random.Random(seed).sample(commonest, room))
    return [row for i, row in enumerate(rows) if row["points"] != common or i in kept]


def _from_file(path: Path, form: Format) -> list[JudgeDataRow]:
    rows: list[JudgeDataRow] = []
    for line, row in read_jsonl(path):
        if "response" not in row and "text" in row:  # a stage's own rows
            row = {**row, "response": row["text"], "judgement": row.get("reply")}
        for name in ("prompt", "response", "judgement"):
            if not isinstance(row.get(name), str):
                raise DataError(f"{path}:{line} has no '{name}'", got=row, wanted="a text")
        prompt, text, reply = row["prompt"], row["response"], row["judgement"]
        mark = form.read(reply)
        if mark.value is None:
            raise DataError(
                f"{path}:{line}: the judgement has no score",
                got=reply,
                wanted=f"a reply as format '{form.name}' asks for it",
                why=mark.reason,
            )
        rows.append({"id": f"judge-data-{line}", "prompt": prompt, "text": text, "reply": reply})
    return rows


def _problem(form: Format, row: JudgeDataRow) -> Problem:
    prompt = form.ask(Problem(id=row["id"], prompt=row["prompt"]), row["text"])
    return Problem(id=row["id"], prompt=prompt, solution=row["reply"], level="judge")

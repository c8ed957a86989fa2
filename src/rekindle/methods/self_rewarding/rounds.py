"""Rounds of self-rewarding: what both papers do between their algorithm boxes.

    stages 01-judge-data 02-seed                                     where `seed.steps` is not 0
           candidates-1 judged-1 pairs-1 dpo-1                       Self-Rewarding, round 1
           candidates-1 initial-1 judged-1 pairs-1 future-1
           ahead-1 judged-ahead-1 pairs-next-1 dpo-1                 Temporal, round 1

`stages/rounds.jsonl` has one row a round: how good the judge was, what the pairs were like, the
gradient, and what has been spent so far (DPO runs, updates of the policy, tokens generated).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from rekindle.engine.config import SampleConfig, Section
from rekindle.engine.device import on_main
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError
from rekindle.files import read_jsonl, write_jsonl
from rekindle.loops.pair_step import likeness
from rekindle.loops.stage_files import Fact
from rekindle.loops.stages import (
    GeneratedRow,
    StageRows,
    Stages,
    disjoint_chunks,
    hash_rows,
)
from rekindle.loops.world import World
from rekindle.methods.dpo import Config as DPOConfig
from rekindle.methods.dpo import run_pairs
from rekindle.methods.self_rewarding.candidates import (
    JudgedCandidate,
    Pick,
    PromptCandidates,
    Ties,
    score_of,
)
from rekindle.methods.self_rewarding.judge_data import SeedConfig, judge_problems
from rekindle.methods.self_rewarding.judging import (
    JudgeConfig,
    check_judge,
    judge_answers,
    mean,
    open_judge,
)
from rekindle.methods.sft import sft_on
from rekindle.records import Problem
from rekindle.rewards.judge import Judge
from rekindle.tasks.pairs import PairRow
from rekindle.tasks.task import grade_all, stable_hash

ROUNDS = "rounds.jsonl"
# A round's draws, apart from each other. A judge says the same of a text, whoever wrote it.
_DRAW = {"current": 1, "initial": 2, "future": 3, "judge": 4}


class ScoredPairRow(PairRow):
    """A pair with the judge's scores, and the hashes of the models that wrote its texts."""

    chosen_score: float
    rejected_score: float
    chosen_source: str
    rejected_source: str


class RoundsConfig(Section):
    """The settings that both methods have."""

    iterations: int = Field(default=4, ge=1, description="rounds; 2508.06026: 4 (temporal: 2)")
    prompts: int = Field(default=200, ge=1, description="a round, never twice; 2508.06026: 4000")
    candidates: int = Field(default=7, ge=2, description="K; 2508.06026, algorithm 1")
    ties: Ties = Field(default="first", description="shortest: of the best, 2407.19594")
    choose_cut: bool = Field(default=False, description="answers cut off may be chosen")
    replay: int = Field(
        default=0, ge=0, description="steps on the seed's data after each DPO: keeps the judge able"
    )
    seed: SeedConfig = SeedConfig()
    judge: JudgeConfig = JudgeConfig()
    dpo: DPOConfig = DPOConfig()


def check(config: RoundsConfig, sample: SampleConfig) -> None:
    """Settings that the schema accepts and nobody can mean."""
    check_judge(config.judge)
    if config.replay and config.seed.steps == 0 and config.seed.path is None:
        raise ConfigError(
            "replay has nothing to replay",
            got="replay with seed.steps: 0",
            why="it goes over judge data again: the seed stage's, or a file's",
            fix="set seed.steps or seed.path, or replay: 0",
        )
    if sample.temperature == 0:
        raise ConfigError(
            "sample.temperature is 0 while a round samples candidates",
            why="all candidates of a prompt would be the same",
            fix="--set sample.temperature=1.0",
        )


class Rounds:
    """One run's stages, its chunks of prompts, and what it has spent."""

    def __init__(self, config: RoundsConfig, world: World) -> None:
        if world.optim.steps < config.iterations:
            raise ConfigError(
                "optim.steps is too small",
                got=world.optim.steps,
                wanted=f"{config.iterations}: one update an iteration",
            )
        self.config, self.world, self.stages = config, world, Stages(world)
        seeding = config.seed
        sizes = [
            seeding.instructions if seeding.steps or config.replay else 0,
            seeding.judged if seeding.steps and seeding.path is None else 0,
        ]
        rounds = [config.prompts] * config.iterations
        fix = "fewer iterations or prompts, or less seed data"
        chunks = disjoint_chunks(world, [*sizes, *rounds], what="rounds of their own", fix=fix)
        self.instructions, self.judge_pool, self.chunks = chunks[0], chunks[1], chunks[2:]
        self.judge_data: list[Problem] = []
        self.rows: list[dict[str, Fact]] = []  # of rounds.jsonl
        self.spent = {"spent/dpo_runs": 0, "spent/updates": 0, "spent/generated": 0}
        self._round: dict[str, Fact] = {}
        self._judged: dict[tuple[str, str], list[JudgedCandidate]] = {}  # by prompt id and role

    # --- before the rounds

    def seeded(self, start: Policy) -> Policy:
        """M_0: the start after SFT on instructions and judge data; as it is with `seed.steps` 0.

        Judge data from a file can be replayed to an M_0 that was made elsewhere.
        """
        config, world = self.config.seed, self.world
        if config.steps == 0 and self.config.replay == 0:
            return start
        self.judge_data = judge_problems(
            config, self.config.judge, self.stages, start, self.judge_pool
        )
        if config.steps == 0:
            return start
        if config.path is None:
            self._spend("judge-data")
        data = [*self.instructions, *self.judge_data]
        return self.stages.train(
            "seed",
            start,
            inputs={"data": _hash_solutions(data)},
            optim=config.optim(world.optim, config.steps),
            body=lambda inner: sft_on(inner, data),
        )

    # --- one round

    def begin(self, i: int, policy: Policy) -> Judge:
        """Open round `i` (from 1); the judge is the current model unless the recipe names one."""
        self._i, self._round, self._judged = i, {"round": i}, {}
        return open_judge(self.config.judge, self.world, policy)

    def answers(self, name: str, role: str, policy: Policy) -> list[GeneratedRow]:
        """K candidates of each of the round's prompts."""
        stage = f"{name}-{self._i}"
        rows = self.stages.answers(
            stage,
            policy,
            self.chunks[self._i - 1],
            samples=self.config.candidates,
            config=self.world.sample,
            seed=self._seed(role),
            role=role,
        )
        self._spend(stage)
        return rows

    def judged(
        self, name: str, judge: Judge, answers: Mapping[str, Sequence[GeneratedRow]]
    ) -> list[PromptCandidates]:
        """Judge these answers; all that is judged of the round so far, prompt by prompt."""
        stage, problems = f"{name}-{self._i}", self.chunks[self._i - 1]
        seed, config = self._seed("judge"), self.config.judge
        rows = judge_answers(self.stages, stage, judge, config, answers, problems, seed=seed)
        self._spend(stage)
        facts = self.stages.records[stage].facts
        prefix = "future_" if "future" in answers else ""
        self._round.update({f"{prefix}{k}": v for k, v in _numbers(facts, "judge/").items()})
        self._round[f"{prefix}histogram"] = facts["histogram"]
        flat = [row for these in answers.values() for row in these]
        for row, judged in zip(flat, rows, strict=True):
            score, cut = judged["score"], row["finish"] == "length"
            known = None if score is None else float(score)
            candidate = JudgedCandidate(row["text"], known, cut, row["source"])
            self._judged.setdefault((row["id"], judged["role"]), []).append(candidate)
        return [
            PromptCandidates(
                problem.id,
                self._judged[problem.id, "current"],
                self._judged.get((problem.id, "initial")),
                self._judged.get((problem.id, "future")),
            )
            for problem in problems
        ]

    def pairs(
        self, name: str, picks: Sequence[Pick], sources: Mapping[str, Policy]
    ) -> list[ScoredPairRow]:
        """The round's pairs as a stage of rows.

        Raises:
            DataError: no pair is left; the reasons are counted.
        """
        stage, problems = f"{name}-{self._i}", self.chunks[self._i - 1]
        rows = [
            _pair(problem, one.chosen, one.rejected)
            for problem, one in zip(problems, picks, strict=True)
            if one.chosen is not None and one.rejected is not None
        ]
        dropped = Counter(one.reason for one in picks if one.reason is not None)
        if not rows:
            raise DataError(
                f"no pair is left in round {self._i}: there is nothing to train on",
                got=f"{len(problems)} prompts: {dict(dropped)}",
                why="equal scores give no preference, and a missing judgement is no score",
                fix="a judge that tells answers apart, more candidates, or a higher temperature",
            )
        return self.stages.rows(
            stage,
            inputs={"pairs": hash_rows(rows), "prompts": len(problems)},
            sources={role: weights_fingerprint(policy) for role, policy in sources.items()},
            make=lambda: StageRows(
                rows,
                dropped=dropped,
                facts=self._facts_of(rows, len(problems), sources),
            ),
        )

    def train(
        self, name: str, policy: Policy, pairs: Sequence[ScoredPairRow], *, kept: bool
    ) -> Policy:
        """DPO from `policy`, referenced to it. `kept` False: a model that is thrown away."""
        config, world, stage = self.config, self.world, f"{name}-{self._i}"
        # Steps divided evenly over the rounds; what is left over goes to the last.
        steps, rest = divmod(world.optim.steps, config.iterations)
        steps += rest if self._i == config.iterations else 0
        pairs_stage = next(s for s in reversed(self.stages.records) if s.startswith("pairs"))
        facts = _numbers(self.stages.records[pairs_stage].facts, "pairs/")
        prefix = "" if kept else "future_"
        self._round.update({f"{prefix}{k}": v for k, v in facts.items()})
        facts = {**_numbers(self._round, "judge/"), **facts}

        trained = self.stages.train(
            stage,
            policy,
            inputs={"pairs": hash_rows(pairs), "reference": weights_fingerprint(policy)},
            optim=world.optim.model_copy(update={"steps": steps}),
            seed=world.seed * 1_000_003 + self._i,
            body=lambda inner: run_pairs(config.dpo, inner, pairs),
            evaluates=kept,
            facts=facts,
        )
        self.spent["spent/dpo_runs"] += 1
        self.spent["spent/updates"] += steps if kept else 0
        rows = [row for _, row in read_jsonl(world.run.directory / "metrics.jsonl")]
        norms = [row["grad_norm"] for row in rows if row["stage"] == stage]
        self._round[f"{prefix}grad_norm"] = mean(norms)
        return trained

    def end(self, policy: Policy) -> Policy:
        """Close the round: replay of the seed's data where asked for, and the round's row."""
        config, world = self.config, self.world
        if config.replay:
            data = [*self.instructions, *self.judge_data]
            policy = self.stages.train(
                f"replay-{self._i}",
                policy,
                inputs={"data": _hash_solutions(data)},
                optim=config.seed.optim(world.optim, config.replay),
                seed=world.seed * 1_000_003 + self._i,
                body=lambda inner: sft_on(inner, data),
            )
        self.rows.append({**self._round, **self.spent})
        path = self.stages.directory / ROUNDS
        on_main(world.group, lambda: write_jsonl(path, self.rows))
        return policy

    # --- numbers

    def _facts_of(
        self, rows: Sequence[ScoredPairRow], prompts: int, sources: Mapping[str, Policy]
    ) -> dict[str, float]:
        """What the pairs are like. `true_gap` is by the task's verifier, for the record alone."""
        by_id = {problem.id: problem for problem in self.chunks[self._i - 1]}
        right: list[float] = []  # share of the chosen texts, then of the rejected ones
        for texts in ([row["chosen"] for row in rows], [row["rejected"] for row in rows]):
            problems = [by_id[row["id"]] for row in rows]
            scores = grade_all(self.world.task, list(zip(problems, texts, strict=True)))
            right.append(mean([s.value for s in scores if s.value is not None]))
        gaps = [row["chosen_score"] - row["rejected_score"] for row in rows]
        roles = {weights_fingerprint(p): role for role, p in reversed(list(sources.items()))}
        past = [float(roles[row["rejected_source"]] == "initial") for row in rows]
        ahead = [float(roles[row["chosen_source"]] == "future") for row in rows]
        return {
            "pairs/kept": len(rows) / prompts,
            "pairs/gap": mean(gaps),
            "pairs/gap_all": sum(gaps) / prompts,
            "pairs/true_gap": right[0] - right[1],
            "pairs/length_gap": mean([float(len(r["chosen"]) - len(r["rejected"])) for r in rows]),
            **likeness(sources["current"], rows, micro_tokens=self.world.micro_tokens),
            "pairs/from_past": mean(past),
            "pairs/from_future": mean(ahead),
        }

    def _seed(self, role: str) -> int:
        return int(stable_hash("round", self.world.seed, self._i, _DRAW[role]) >> 33)

    def _spend(self, stage: str) -> None:
        self.spent["spent/generated"] += self.stages.records[stage].generated


def _numbers(facts: Mapping[str, Fact], prefix: str) -> dict[str, float]:
    """The facts so named; nan where one was written as null."""
    return {
        name: math.nan if value is None else value
        for name, value in facts.items()
        if name.startswith(prefix) and not isinstance(value, Mapping)
    }


def _pair(problem: Problem, chosen: JudgedCandidate, rejected: JudgedCandidate) -> ScoredPairRow:
    row: ScoredPairRow = {
        "id": problem.id,
        "prompt": problem.prompt,
        "chosen": chosen.text,
        "rejected": rejected.text,
        "chosen_score": score_of(chosen),
        "rejected_score": score_of(rejected),
        "chosen_source": chosen.source,
        "rejected_source": rejected.source,
    }
    if problem.messages is not None:
        row["messages"] = [list(turn) for turn in problem.messages]
    return row


def _hash_solutions(data: Sequence[Problem]) -> str:
    return hash_rows([{"prompt": p.prompt, "text": p.solution} for p in data])

"""Weak-to-Strong's stages: what stands between the steps of its algorithm box.

stages 01-halves 02-weak 03-weak-answers                        all that has a weak model
       04-demos 05-icl-answers 06-kept-1 07-sft                 stage I
       07-weak-ft 08-icl-ft 09-weak-2-answers 10-icl-2-answers 11-kept-2 12-sft
                                                                its second iteration
       08-samples 09-pairs 10-dpo                               stage II
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from rekindle.engine.adapters.policies import with_adapter
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError
from rekindle.loops.stage_files import Fact
from rekindle.loops.stages import GeneratedRow, RowT, StageRows, Stages, hash_rows
from rekindle.loops.world import World
from rekindle.methods import dpo, orpo
from rekindle.methods.sft import sft_on
from rekindle.methods.weak_to_strong.halves import (
    Demos,
    DemoSampler,
    HalvesConfig,
    draw_halves,
    pick_demos,
    split_halves,
)
from rekindle.methods.weak_to_strong.pairs import (
    FEW_VOTES,
    NO_WINNER,
    Answer,
    KeptRow,
    Question,
    TextRow,
    WeakPairRow,
    at_least,
    draw_rows,
    read_answer,
    vote,
)
from rekindle.tasks.task import grade_all, stable_hash


class WeakToStrongRun:
    """One run's stages, its halves, and the verbs of the algorithm box."""

    def __init__(self, config: HalvesConfig, world: World) -> None:
        self.config, self.world, self.stages = config, world, Stages(world)
        self.labelled, self.questions = split_halves(config, world)
        self._by_id = {problem.id: problem for problem in self.questions}
        parts = (("1", self.labelled), ("2", self.questions))
        rows = [{"id": q.id, "half": half, "prompt": q.prompt} for half, p in parts for q in p]
        self.stages.rows("halves", inputs={"rows": hash_rows(rows)}, make=lambda: StageRows(rows))

    # --- texts

    def greedy(self, name: str, policy: Policy, demos: Demos | None = None) -> list[GeneratedRow]:
        """One answer at temperature 0 to each question, or to those that are in no demo."""
        config = self.world.sample.model_copy(update={"temperature": 0.0, "top_p": 1.0})
        questions = self.questions
        if demos is not None:
            config = demos.ending(config)
            questions = [demos.before(q) for q in questions if not demos.include(q)]
        rows = self.stages.answers(
            f"{name}-answers",
            policy,
            questions,
            samples=1,
            config=config,
            seed=self._seed(name),
            role=name,
        )
        return [{**row, "prompt": self._by_id[row["id"]].prompt} for row in rows]

    def demos(self, rows: Sequence[GeneratedRow], weak: Policy) -> Demos:
        """Weak answers to be shown, as a stage of rows; there is no stage where none are."""
        if self.config.demos == 0:
            return Demos((), self.config.separator)
        picked = pick_demos(rows, count=self.config.demos, seed=self.config.seed)
        self._rows("demos", picked, {"weak": weak})
        examples = tuple((row["prompt"], row["text"]) for row in picked)
        return Demos(examples, self.config.separator)

    def kept(
        self,
        i: int,
        rows: list[KeptRow],
        dropped: Counter[str],
        models: Mapping[str, Policy],
        *,
        of: Sequence[GeneratedRow],
    ) -> list[KeptRow]:
        """What the filter of iteration `i` keeps, both texts of a question, as a stage of rows.

        `of`: the weak side's answers that it was asked about. How many are right before and after
        the filter is counted for the record, by gold that nothing else sees.
        """
        considered = len(rows) // 2 + dropped.total()
        in_demos = len(self.questions) - considered
        if in_demos:
            dropped = dropped + Counter({"a demo whose question is asked": in_demos})
        facts: dict[str, Fact] = {
            "kept_share": len(rows) / 2 / considered if considered else None,
            "right_before": self._right(of),
            "right_kept": self._right([row for row in rows if row["side"] == "weak"]),
        }
        return self._rows(f"kept-{i}", rows, models, dropped, facts)

    def some(self, rows: Sequence[GeneratedRow], count: int, weak: Policy) -> list[GeneratedRow]:
        """`count` of the rows, drawn at random, in their order."""
        drawn = draw_rows(rows, count, role="random", seed=self.config.seed)
        return self._rows("random", drawn, {"weak": weak})

    def sampled(self, policy: Policy) -> dict[str, list[GeneratedRow]]:
        """Question id -> the model's samples."""
        rows = self.stages.answers(
            "samples",
            policy,
            self.questions,
            samples=self.config.samples,
            config=self.world.sample,
            seed=self._seed("samples"),
            role="strong",
        )
        samples: dict[str, list[GeneratedRow]] = {problem.id: [] for problem in self.questions}
        for row in rows:
            samples[row["id"]].append(row)
        return samples

    def majorities(self, policy: Policy, *, tau: float) -> list[GeneratedRow]:
        """The first sample with the commonest answer, where its share is `tau` at least."""
        rows, dropped = list[GeneratedRow](), Counter[str]()
        for name, samples in self.sampled(policy).items():
            answers = self._answers(name, samples)
            winner = vote(answers)
            if winner.answer is None:
                dropped[NO_WINNER] += 1
            elif not at_least(winner.votes, winner.n, tau):
                dropped[FEW_VOTES] += 1
            else:
                rows.append(samples[answers.index(winner.agree[0])])
        return self._rows("majorities", rows, {"strong": policy}, dropped)

    def voted(self, weak_rows: Sequence[GeneratedRow], plus: Policy) -> list[Question]:
        """What stage II's pairs are made from: the weak answers beside samples of M_plus."""
        sampled = self.sampled(plus)
        return [
            Question(
                weak["id"],
                weak["prompt"],
                self._answers(weak["id"], [weak])[0],
                self._answers(weak["id"], sampled[weak["id"]]),
                self._by_id[weak["id"]].messages,
            )
            for weak in weak_rows
        ]

    def _answers(self, name: str, rows: Sequence[GeneratedRow]) -> tuple[Answer, ...]:
        same = self.config.equality
        return tuple(read_answer(name, "text", row, equality=same) for row in rows)

    def pairs(
        self, rows: list[WeakPairRow], dropped: Counter[str], models: Mapping[str, Policy]
    ) -> list[WeakPairRow]:
        """Stage II's pairs, as a stage of rows."""
        sides = Counter(row["weak_side"] for row in rows)
        facts = {"weak_chosen": sides["chosen"], "weak_rejected": sides["rejected"]}
        return self._rows("pairs", rows, models, dropped, facts)

    def _right(self, rows: Sequence[GeneratedRow]) -> float | None:
        gold = {problem.id: problem for problem in draw_halves(self.config, self.world)[1]}
        known = [(gold[row["id"]], row["text"]) for row in rows if gold[row["id"]].answer]
        scores = grade_all(self.world.task, known)
        values = [score.value for score in scores if score.value is not None]
        return sum(values) / len(values) if values else None

    def gold(self) -> list[TextRow]:
        """Reference solutions of half 2, for the ceiling and nothing else."""
        solved = draw_halves(self.config, self.world)[1]
        lacking = [problem.id for problem in solved if problem.solution is None]
        if lacking:
            raise DataError(
                "half 2 has problems without solutions",
                got=lacking[:5],
                why="the ceiling is the strong model trained on them",
            )
        return [{"id": p.id, "prompt": p.prompt, "text": str(p.solution)} for p in solved]

    # --- models

    def weak_model(self, *, kept: bool) -> Policy:
        """m: the weak base after SFT on gold of half 1. `kept`: it is what the run is about."""
        base, own = self.world.policy, self.world.policy.adapter
        if self.config.weak != "base":
            base = Policy.load(base.config.with_name(self.config.weak))
            if own is not None and base.adapter is None:
                base = with_adapter(base, own.lora, seed=self.world.seed)
        data = self.labelled
        return self.stages.train(
            "weak",
            base,
            inputs={"data": hash_rows([{"prompt": p.prompt, "text": p.solution} for p in data])},
            optim=self.config.weak_sft.optim(self.world.optim),
            body=lambda inner: sft_on(inner, data),
            evaluates=kept,
        )

    def sft(self, name: str, rows: Sequence[TextRow], *, kept: bool = True) -> Policy:
        """The strong model as it was, trained on these texts."""
        data = [replace(self._by_id[row["id"]], solution=row["text"]) for row in rows]
        return self.stages.train(
            name,
            self.world.policy,
            inputs={"rows": hash_rows(rows)},
            body=lambda inner: sft_on(inner, data),
            evaluates=kept,
        )

    def stage_two(self, loss: str, plus: Policy, pairs: Sequence[WeakPairRow]) -> Policy:
        """M_pro: M_plus after DPO, referenced to it, or ORPO."""
        train = partial(dpo.run_pairs, self.config.dpo)
        if loss == "orpo":
            train = partial(orpo.run_pairs, self.config.orpo)
        return self.stages.train(
            loss,
            plus,
            inputs={"pairs": hash_rows(pairs), "reference": weights_fingerprint(plus)},
            optim=self.config.stage2.optim(self.world.optim),
            body=lambda inner: train(inner, pairs),
        )

    def prompted(self, demos: Demos) -> Policy:
        """The strong model as it is, evaluated with the demos; one step that trains nothing.

        Raises:
            ConfigError: metrics are asked for that do not know of the demos.
        """
        if self.world.evaluation.config.likelihood:
            raise ConfigError(
                "eval.likelihood is not measured with demos",
                why="the probabilities would be those of prompts without them",
                fix="--set eval.likelihood=false",
            )

        def body(inner: World) -> Policy:
            with_demos = replace(
                inner.evaluation, when="after", around=lambda sampler: DemoSampler(sampler, demos)
            )
            inner = replace(inner, evaluation=with_demos)
            for step in inner.steps(inner.begin()):
                inner.log(step, {"tokens/trained": 0.0})
            return inner.policy

        once = self.world.optim.model_copy(update={"steps": 1})
        inputs = {"demos": list(demos.examples)}
        return self.stages.train("shown", self.world.policy, inputs=inputs, optim=once, body=body)

    # --- rows

    def _rows(
        self,
        name: str,
        rows: list[RowT],
        models: Mapping[str, Policy],
        dropped: Mapping[str, int] | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> list[RowT]:
        dropped = dict(dropped or {})
        if not rows:
            raise DataError(
                f"nothing is left after '{name}': there is nothing to train on",
                got=f"{len(self.questions)} questions: {dropped}",
                fix="a better weak model, more questions, or other thresholds",
            )
        return self.stages.rows(
            name,
            inputs={"rows": hash_rows(rows), "dropped": dropped},
            sources={role: weights_fingerprint(policy) for role, policy in models.items()},
            make=lambda: StageRows(rows, dropped=dropped, facts=facts or {}),
        )

    def _seed(self, role: str) -> int:
        return int(stable_hash("w2s", self.world.seed, role) >> 33)

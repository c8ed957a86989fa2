"""A round's answers under a judge: which one, its judgements as a stage, and how good they are.

The verifier's verdicts never enter the rows: they are only counted, in the facts beside them.

Axes: N answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, TypedDict

from pydantic import Field

from rekindle.engine.config import SampleConfig, Section
from rekindle.engine.device import on_main
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import Sampler
from rekindle.errors import ConfigError, PromptTooLongError
from rekindle.loops.rollouts import column, refuse_too_many_missing
from rekindle.loops.stage_files import Fact
from rekindle.loops.stages import GeneratedRow, StageRows, Stages, hash_rows
from rekindle.loops.world import World
from rekindle.ops.ranking import auc, group_auc
from rekindle.records import Problem, Score
from rekindle.rewards.judge import (
    HIGHEST,
    Format,
    Judge,
    Judgement,
    ScorerJudge,
    averaged,
    format_of,
)
from rekindle.rewards.judge_endpoint import (
    JUDGE,
    EndpointJudge,
    MaxTokensField,
    ReplyCache,
    SystemRole,
)
from rekindle.rewards.reward_model import Answered
from rekindle.servers.addresses import check_address, check_key_name
from rekindle.servers.client import Server
from rekindle.tasks.task import grade_all

CACHE = "judge_replies.jsonl"
_AT_ENDPOINT = (
    *("url", "model", "key_env", "cache", "parallel", "timeout", "retries", "backoff"),
    *("max_tokens_field", "send_seed", "system_role"),
)
_WRITES = ("format", "samples", "temperature", "top_p", "max_new_tokens")


class JudgeConfig(Section):
    """Who judges, and how it is asked."""

    source: Literal["self", "endpoint", "reward", "callable"] = Field(
        default="self",
        description="self: the current model; reward: the recipe's reward model; callable: "
        "train(..., judge=...)",
    )
    format: Literal["additive", "marker"] = Field(
        default="additive", description="marker: for models that read no English"
    )
    samples: int = Field(default=3, ge=1, description="judgements averaged; 2401.10020, 2.2")
    temperature: float = Field(default=1.0, ge=0.0, description="2508.06026, experiments")
    top_p: float = Field(default=1.0, gt=0.0, le=1.0, description="2508.06026, experiments")
    max_new_tokens: int | None = Field(default=None, ge=1, description="None: by format")
    max_missing: float = Field(
        default=0.5, ge=0.0, le=1.0, description="share of answers that may lack a judgement"
    )
    url: str | None = Field(default=None, description="endpoint: the base, e.g. http://host/v1")
    model: str | None = Field(default=None, description="endpoint: the model's name there")
    key_env: str | None = Field(default=None, description="endpoint: variable that holds its key")
    cache: str | None = Field(
        default=None, description=f"endpoint: file of replies; None: RUN/{CACHE}"
    )
    parallel: int = Field(default=8, ge=1, description="endpoint: requests under way")
    timeout: float = Field(
        default=60.0, gt=0.0, description="endpoint: seconds of a request, to its reply's last byte"
    )
    retries: int = Field(default=6, ge=0, description="endpoint: after 429, 5xx, timeouts")
    backoff: float = Field(
        default=1.0, ge=0.0, description="endpoint: seconds before the first retry, then doubled"
    )
    max_tokens_field: MaxTokensField = Field(
        default="max_tokens",
        description="endpoint: what the server calls the limit; none: no limit",
    )
    send_seed: bool = Field(default=True, description="endpoint: false where it takes no seed")
    system_role: SystemRole = Field(
        default="system", description="endpoint: user: the system message before the user's"
    )


def check_judge(config: JudgeConfig) -> None:
    """Refuse settings without effect.

    Raises:
        ConfigError: what is needed is not there, a setting has no effect with the source, or the
            address is none or holds a secret.
    """
    if config.url is not None:
        check_address("judge", config.url)
    if config.key_env is not None:
        check_key_name("judge", config.key_env)
    idle: tuple[str, ...] = () if config.source == "endpoint" else _AT_ENDPOINT
    if config.source in ("reward", "callable"):
        idle += _WRITES
    for name in idle:
        if getattr(config, name) != JudgeConfig.model_fields[name].default:
            raise ConfigError(
                f"judge.{name} has no effect with judge.source: {config.source}", fix="remove it"
            )
    if config.source == "endpoint" and (config.url is None or config.model is None):
        raise ConfigError(
            "a judge at an endpoint needs judge.url and judge.model",
            got=f"url {config.url}, model {config.model}",
            wanted="e.g. url: http://localhost:8000/v1 and the model's name at that server",
        )


# --- the model itself


@dataclass(frozen=True)
class SelfJudge:
    """A policy as the judge of answers: all prompts in one batched call of the sampler.

    Equal answers to one problem are judged once. A prompt that leaves no room for the reply in the
    policy's context is a missing judgement.
    """

    policy: Policy
    sampler: Sampler
    format: Format
    samples: int
    decoding: SampleConfig

    def judge(self, answers: Sequence[Answered], *, seed: int) -> list[Judgement]:
        """`samples` replies about each answer, averaged."""
        hashes = [blake2b(t.encode("utf-8", "surrogatepass"), digest_size=8) for _, t in answers]
        keys = [f"{p.id}/{h.hexdigest()}" for (p, _), h in zip(answers, hashes, strict=True)]
        asked = {
            key: Problem(id=key, prompt=self.format.ask(problem, text))
            for key, (problem, text) in zip(keys, answers, strict=True)
        }
        prompts = [prompt for prompt in asked.values() if self._fits(prompt)]
        rollouts = self.sampler.sample(
            prompts, samples=self.samples, config=self.decoding, seed=seed
        )
        too_long = Judgement(Score.missing("longer than the judge's context"))
        judgements = dict.fromkeys(asked, too_long)
        for i, prompt in enumerate(prompts):
            these = rollouts[i * self.samples : (i + 1) * self.samples]
            marks = tuple(
                self.format.mark(r.text, cut=r.finish == "length", thought_open=r.thought_open)
                for r in these
            )
            texts, tokens = tuple(r.text for r in these), sum(len(r.tokens) for r in these)
            judgements[prompt.id] = Judgement(averaged(marks), marks, texts, tokens)
        out = []
        for key in keys:  # what was generated counts once
            out.append(judgements[key])
            judgements[key] = judgements[key]._replace(tokens=0)
        return out

    def fingerprint(self) -> str:
        """The weights': a judgement is a text by this model."""
        return weights_fingerprint(self.policy)

    def _fits(self, prompt: Problem) -> bool:
        room = self.decoding.max_new_tokens
        system = self.policy.config.system or ""
        # a token is a byte of text at least, and templates are short: most prompts need no count
        most = len((system + prompt.prompt).encode("utf-8", "replace")) + 64
        if most + room <= self.policy.context:
            return True
        try:
            return len(self.policy.encode_prompt(prompt)) + room <= self.policy.context
        except PromptTooLongError:
            return False


def open_judge(config: JudgeConfig, world: World, policy: Policy) -> Judge:
    """The judge that a recipe names; `policy` where it is the model itself.

    Raises:
        ConfigError: the recipe has no reward model, or `train` was given no judge.
    """
    form = format_of(config.format)
    if config.source == "self":
        decoding = SampleConfig(
            temperature=config.temperature,
            top_p=config.top_p,
            max_new_tokens=config.max_new_tokens or form.room,
            batch_size=world.sample.batch_size,
        )
        sampler = world.shared_sampler_for(policy)
        return SelfJudge(policy, sampler, form, config.samples, decoding)
    if config.source == "endpoint":
        cache = Path(config.cache) if config.cache else world.run.directory / CACHE
        server = Server(
            JUDGE,
            str(config.url),
            key_env=config.key_env,
            timeout=config.timeout,
            retries=config.retries,
            backoff=config.backoff,
            parallel=config.parallel,
        )
        return EndpointJudge(
            server,
            model=str(config.model),
            format=form,
            cache=ReplyCache(cache),
            samples=config.samples,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_new_tokens,
            max_tokens_field=config.max_tokens_field,
            send_seed=config.send_seed,
            system_role=config.system_role,
        )
    if config.source == "reward":
        if world.graders.scorer is None:
            raise ConfigError(
                "judge.source is reward, and the recipe names no reward model",
                wanted="reward.model, reward.url, or reward.source: random",
                fix="rekindle reward train makes one; --set reward.model=DIR/final",
            )
        return ScorerJudge(world.graders.scorer)
    if world.graders.judge is None:
        raise ConfigError(
            "judge.source is callable, and no judge was given",
            fix="train(recipe, out, judge=CallableJudge(function, name)) from Python",
        )
    return world.graders.judge


# --- judgements as a stage


class JudgedRow(TypedDict):
    """What a judge said of one answer; `source` is the judge."""

    id: str
    role: str
    sample: int
    score: float | None
    reason: str | None
    marks: list[float | None]
    replies: list[str]
    source: str


def judge_answers(
    stages: Stages,
    name: str,
    judge: Judge,
    config: JudgeConfig,
    answers: Mapping[str, Sequence[GeneratedRow]],
    problems: Sequence[Problem],
    *,
    seed: int,
) -> list[JudgedRow]:
    """Judge a round's answers as a stage of rows, in the order of the answers.

    Args:
        answers: role ("current", ...) -> rows of `Stages.answers`.
        problems: what they answer.

    Raises:
        TrainingError: more than `config.max_missing` of the answers have no judgement. The stage
            is finished all the same, so that the replies can be read and are not made again.
    """
    world, source = stages.world, judge.fingerprint()
    flat = [(role, row) for role, rows in answers.items() for row in rows]
    by_id = {problem.id: problem for problem in problems}
    pairs = [(by_id[row["id"]], row["text"]) for _, row in flat]

    def make() -> StageRows[JudgedRow]:
        ask = lambda: judge.judge(pairs, seed=seed)  # noqa: E731
        together = isinstance(judge, SelfJudge)  # samples on all processes
        judgements = ask() if together else on_main(world.group, ask)
        rows = [
            _judged_row(role, row, one, source)
            for (role, row), one in zip(flat, judgements, strict=True)
        ]
        facts = quality(judgements, pairs, world)
        return StageRows(rows, generated=sum(one.tokens for one in judgements), facts=facts)

    inputs = {
        "answers": {role: hash_rows(rows) for role, rows in answers.items()},
        "judge": source,
        "asked": config.model_dump(mode="json", include={"source", *_WRITES}),
        "seed": seed,
    }
    rows = stages.rows(name, inputs=inputs, sources={"judge": source}, make=make)
    refuse_too_many_missing(
        [row["reason"] for row in rows],
        config.max_missing,
        "judge.max_missing",
        "judgement",
        fix=f"look at the replies (rows.jsonl of stage '{name}'; judge.max_new_tokens, "
        "judge.format), or teach it: seed",
    )
    return rows


def _judged_row(role: str, row: GeneratedRow, judgement: Judgement, source: str) -> JudgedRow:
    return {
        "id": row["id"],
        "role": role,
        "sample": row["sample"],
        "score": judgement.score.value,
        "reason": judgement.score.reason,
        "marks": [mark.value for mark in judgement.marks],
        "replies": list(judgement.replies),
        "source": source,
    }


def quality(
    judgements: Sequence[Judgement], answers: Sequence[Answered], world: World
) -> dict[str, Fact]:
    """How a judge's scores stand to the verifier's verdicts, and what they look like.

    `judge/auc` over all answers, `judge/auc_in_prompt` over answers to one prompt (0.5 where it
    knows nothing), `judge/parse_rate` of replies, `judge/tie_rate` of prompts whose scores are all
    equal, and `histogram`, the share of each whole score. nan where undefined.
    """
    verdicts = grade_all(world.task, list(answers))
    right_N = column([verdict.value for verdict in verdicts])
    score_N = column([one.score.value for one in judgements])
    prompts = [problem.id for problem, _ in answers]
    marks = [mark for one in judgements for mark in one.marks]
    by_prompt: dict[str, list[float]] = {}
    for prompt, one in zip(prompts, judgements, strict=True):
        if one.score.value is not None:
            by_prompt.setdefault(prompt, []).append(one.score.value)
    several = [values for values in by_prompt.values() if len(values) > 1]
    known = [one.score.value for one in judgements if one.score.value is not None]
    counts = Counter(min(max(round(value), 0), int(HIGHEST)) for value in known)
    return {
        "judge/auc": auc(score_N, right_N),
        "judge/auc_in_prompt": group_auc(score_N, right_N, prompts),
        "judge/mean": mean(known),
        "judge/parse_rate": mean([float(mark.value is not None) for mark in marks]),
        "judge/missing": mean([float(one.score.value is None) for one in judgements]),
        "judge/tie_rate": mean([float(min(values) == max(values)) for values in several]),
        "judge/right": float(right_N.nanmean()) if len(right_N) else math.nan,
        "histogram": {
            str(k): counts[k] / len(known) if known else None for k in range(int(HIGHEST) + 1)
        },
        "reasons": dict(Counter(one.score.reason for one in judgements if one.score.reason)),
    }


def mean(values: Sequence[float]) -> float:
    """Their mean; nan of none."""
    return sum(values) / len(values) if values else math.nan

"""A step's answers under a reward model: which one, its scores, and how far they can be trusted.

The verifier's verdict and the reward model's score stay apart: `correct` and `rm_score` of a row.
How far the scores tell right answers from wrong ones on the policy's own samples is logged at every
step, since a policy that games a reward model shows there first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rekindle.engine.config import RewardConfig
from rekindle.engine.device import Group, pick_device
from rekindle.engine.integrity import located
from rekindle.errors import ConfigError, RewardFunctionError, ServerError
from rekindle.loops.rollouts import AnswerRow, Grade, column, refuse_too_many_missing
from rekindle.ops.ranking import auc, group_auc
from rekindle.records import Rollout, Score
from rekindle.rewards.controls import OracleScores, RandomScores
from rekindle.rewards.judge import Judge
from rekindle.rewards.reward_model import CachedScorer, ScalarHead, Scorer
from rekindle.rewards.reward_server import REWARD, RewardServer
from rekindle.servers.addresses import check_address, check_key_name
from rekindle.servers.client import Server
from rekindle.tasks import Task
from rekindle.tasks.task import Grader, grade_all


@dataclass(frozen=True)
class Graders:
    """Who grades a run's answers, and how many of a step's may go without a score.

    Attributes:
        verifier: of training, where it is not the task's own; evaluation keeps the task's.
        scorer: the reward model.
        judge: the caller's own, for methods whose answers are judged.
        max_missing, max_missing_rm: shares, of the verifier's and of the reward model's scores.
    """

    verifier: Grader | None = None
    scorer: Scorer | None = None
    judge: Judge | None = None
    max_missing: float = 0.5
    max_missing_rm: float = 1.0

    def grade(self, task: Task, rollouts: Sequence[Rollout], group: Group) -> list[Grade]:
        """This process's answers under the training verifier, and the reward model if there is one.

        Raises:
            ServerError, RewardFunctionError: as `in_all`.
        """
        answers = [(rollout.problem, rollout.text) for rollout in rollouts]
        responses = [rollout.response for rollout in rollouts]
        verdicts = in_all(group, lambda: grade_all(self.verifier or task, responses))
        scorer = self.scorer
        if scorer is None:
            return [Grade(verdict, None) for verdict in verdicts]
        rewards = in_all(group, lambda: scorer.score(answers))
        return [Grade(*pair) for pair in zip(verdicts, rewards, strict=True)]

    def check_missing(self, rows: Sequence[AnswerRow]) -> None:
        """Stop a run most of whose answers have no score.

        Raises:
            TrainingError: with the count of each reason.
        """
        for reasons, most, section, grader in (
            ([row.missing for row in rows], self.max_missing, "task", "grader"),
            ([row.rm_missing for row in rows], self.max_missing_rm, "reward", "reward model"),
        ):
            what, fix = f"score from the {grader}", f"mend the {grader}, then go on with --resume"
            refuse_too_many_missing(reasons, most, f"{section}.max_missing", what, fix=fix)

    def metrics(self, rows: Sequence[AnswerRow]) -> dict[str, float]:
        """How the reward model's scores and the training verifier stand to the true check, and the
        share of answers that the verifier cannot read, where it says so."""
        metrics = reward_model_metrics(rows) if self.scorer is not None else {}
        if self.verifier is not None:
            true = [row.true for row in rows if not math.isnan(row.true)]
            metrics["score/true"] = sum(true) / len(true) if true else math.nan
        unreadable = [row.unreadable for row in rows if not math.isnan(row.unreadable)]
        if unreadable:
            metrics["score/unreadable"] = sum(unreadable) / len(unreadable)
        return metrics


def check_reward(config: RewardConfig) -> None:
    """Refuse settings that exclude each other.

    Raises:
        ConfigError: two sources, a setting that has no effect with the chosen one, or an address
            that is none or holds a secret.
    """
    if config.url is not None:
        check_address("reward", config.url)
    if config.key_env is not None:
        check_key_name("reward", config.key_env)
    given = [name for name in ("model", "url") if getattr(config, name) is not None]
    if config.source != "model" and given:
        raise ConfigError(
            f"reward.{given[0]} has no effect with reward.source: {config.source}",
            fix=f"remove one: '{config.source}' is a control that replaces reward.{given[0]}",
        )
    if config.source != "oracle" and config.noise != RewardConfig.model_fields["noise"].default:
        raise ConfigError("reward.noise has no effect without reward.source: oracle")
    if len(given) == 2:
        raise ConfigError(
            "reward.model and reward.url exclude each other",
            got=f"{config.model} and {config.url}",
            wanted="one source of scores",
            fix="for a vLLM server, give the model's name as reward.served",
        )
    if config.url is None and config.served is not None:
        raise ConfigError("reward.served has no effect without reward.url", fix="remove it")
    if config.url is None and config.key_env is not None:
        raise ConfigError("reward.key_env has no effect without reward.url", fix="remove it")
    if config.model is None and config.revision is not None:
        raise ConfigError("reward.revision has no effect without reward.model", fix="remove it")


def refuse_no_source(config: RewardConfig, method: str) -> None:
    """A method that ranks by a reward model must be given one.

    Raises:
        ConfigError: the recipe names none; said before anything is loaded.
    """
    if config.model is None and config.url is None and config.source == "model":
        raise ConfigError(
            f"method '{method}' needs a reward model, and the recipe names none",
            wanted="reward.model, reward.url, or reward.source: random (a control)",
            fix="rekindle reward train makes one; --set reward.model=DIR/final",
        )


def open_scorer(config: RewardConfig, task: Task, *, device: str = "auto") -> Scorer | None:
    """The reward model that a recipe names; None when it names none.

    `task` is whose true check `source: oracle` knows.

    Raises:
        ConfigError, ModelError: it cannot be meant, or cannot be used.
    """
    check_reward(config)
    if config.source == "random":
        return RandomScores(config.seed)
    if config.source == "oracle":
        return OracleScores(task.grade, task.fingerprint(), config.noise, config.seed)
    if config.url is not None:
        server = Server(
            REWARD,
            config.url,
            key_env=config.key_env,
            timeout=config.timeout,
            retries=config.retries,
            backoff=config.backoff,
        )
        scorer = RewardServer(server, config.protocol, config.served, config.batch)
        return CachedScorer(scorer, keep=config.cache)
    if config.model is None:
        return None
    head = ScalarHead.load(
        located(config.model),
        device=pick_device(device),
        dtype=config.dtype,
        **config.model_dump(include={"revision", "batch_tokens", "trust_remote_code"}),
    )
    return CachedScorer(head, keep=config.cache)


def in_all(group: Group, score: Callable[[], list[Score]]) -> list[Score]:
    """This process's scores; a failure in one process is raised in all: nobody waits.

    Raises:
        ServerError: a reward model gives no scores: unavailable, or refused.
        RewardFunctionError: a reward in Python failed.
    """
    scores: list[Score] = []
    failure: ServerError | RewardFunctionError | None = None
    try:
        scores = score()
    except (ServerError, RewardFunctionError) as error:
        failure = error
    failures = [error for error in group.gather_objects([failure]) if error is not None]
    if failure is not None:
        raise failure
    if failures:
        raise type(failures[0])(f"in another process: {failures[0]}")
    return scores


def reward_model_metrics(rows: Sequence[AnswerRow]) -> dict[str, float]:
    """How the reward model's scores of a step's answers stand to the strongest check there is.

    `rm/auc` over all answers, `rm/auc_in_group` over pairs of the same group, and `rm/auc` within
    the answers that the training verifier rejects or accepts: not nan only where it errs.
    """
    rm_N = column([row.rm_score for row in rows])
    true_N = column([row.true for row in rows])
    correct_N = column([row.correct for row in rows])
    wrong_N, right_N = correct_N <= 0.5, correct_N > 0.5
    known_N = rm_N[~rm_N.isnan()]
    return {
        "rm/mean": float(known_N.mean()) if len(known_N) else math.nan,
        "rm/std": float(known_N.std()) if len(known_N) > 1 else math.nan,
        "rm/auc": auc(rm_N, true_N),
        "rm/auc_in_group": group_auc(rm_N, true_N, [row.group for row in rows]),
        "rm/auc_within_wrong": auc(rm_N[wrong_N], true_N[wrong_N]),
        "rm/auc_within_right": auc(rm_N[right_N], true_N[right_N]),
        "score/rm_missing": 1 - len(known_N) / len(rows) if rows else math.nan,
    }

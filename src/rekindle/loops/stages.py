"""The stages of a method that generates, selects and trains in turn.

    RUN/stages/01-candidates/   rows.jsonl  stage.json          a stage that makes rows
    RUN/stages/02-dpo/          a run directory of its own      a stage that trains

On resume a finished stage is read, never made again; one that was cut off goes on from its own
checkpoints. `stage.json` says what the rows were made from (hashes of models and of earlier rows,
seed, decoding), how many were kept, and how many were dropped and why. A row's `source` is the hash
of the model that wrote its text: a text by any model but those named is an error.

After each stage the metrics and evaluations of all stages so far are written at the top of the run
directory, steps counted through. `epochs` and `disjoint_chunks` say what a stage trains on.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypedDict, TypeVar, cast

import torch

from rekindle.engine.adapters.policies import reopened, save_trained
from rekindle.engine.config import OptimConfig, SampleConfig
from rekindle.engine.device import on_main, seed_everything
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.integrity import stage_fault
from rekindle.engine.policy import Policy
from rekindle.engine.progress import say
from rekindle.engine.run import Run
from rekindle.errors import DataError, RunDirectoryError
from rekindle.files import (
    read_json,
    sha256_file,
    write_json,
    write_jsonl,
)
from rekindle.loops.evaluation import When
from rekindle.loops.stage_files import (
    RECORD,
    ROWS,
    Fact,
    StageRecord,
    is_finished,
    read_stage,
    read_stage_rows,
    stage_number,
)
from rekindle.loops.world import World
from rekindle.records import Finish, Problem

T = TypeVar("T")
RowT = TypeVar("RowT", bound=Mapping[str, object])  # a TypedDict


class GeneratedRow(TypedDict):
    """A sampled answer."""

    id: str
    prompt: str
    level: str
    sample: int
    text: str
    answer: str | None  # what the task reads out of the text
    tokens: int
    finish: Finish
    source: str


@dataclass(frozen=True)
class StageRows(Generic[RowT]):
    """The rows of a stage, and how they came about.

    Attributes:
        rows: JSON objects; texts that a model wrote come with their `source`.
        dropped: how many were left out, by reason.
        generated: tokens sampled for it, on all processes.
        facts: numbers worth keeping beside the rows (agreement, rates); nan is written as null.
    """

    rows: list[RowT]
    dropped: Mapping[str, int] = field(default_factory=dict)
    generated: int = 0
    facts: Mapping[str, Fact] = field(default_factory=dict)


class Stages:
    """The stages of one run, numbered in the order in which they are asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directory = world.run.directory / "stages"
        self.records: dict[str, StageRecord] = {}  # of stages that made rows, by name
        self._trained: list[_Trained] = []
        self._count = self._steps = 0

    # --- stages that make rows

    def rows(
        self,
        name: str,
        *,
        inputs: Mapping[str, object],
        make: Callable[[], StageRows[RowT]],
        sources: Mapping[str, str] | None = None,
    ) -> list[RowT]:
        """The rows of a stage: read back where it is finished, made and written where not.

        Args:
            name: of the stage; part of its directory's name.
            inputs: everything that decides the rows: hashes (`hash_rows`, `weights_fingerprint`),
                seed, decoding, thresholds. Plain data.
            make: called on all processes when the stage is not finished; the same on all.
            sources: role -> fingerprint of each model whose texts may be among the rows. None:
                no row carries a model's text.

        Raises:
            RunDirectoryError: the stage was made from other inputs, or its file was changed since.
            DataError: a text by a model that is not among `sources`.
        """
        group, directory = self.world.group, self._directory(name)
        inputs = {**json.loads(json.dumps(dict(inputs))), "sources": dict(sources or {})}
        if not on_main(group, lambda: self._has_rows(directory, inputs, sources)):
            began = time.perf_counter()
            new = make()
            refuse_foreign_texts(new.rows, sources, stage=name)
            record = {
                "stage": name,
                "inputs": inputs,
                "kept": len(new.rows),
                "dropped": dict(new.dropped),
                "generated": new.generated,
                "seconds": time.perf_counter() - began,
                **new.facts,
            }

            def write() -> None:
                write_jsonl(directory / ROWS, new.rows)
                sha256 = sha256_file(directory / ROWS)
                write_json(directory / RECORD, {**record, "rows_sha256": sha256})
                self._note(directory, sha256_file(directory / RECORD))

            on_main(group, write)
        self.records[name], raw = on_main(group, lambda: read_stage(directory))
        rows = cast(list[RowT], raw)
        refuse_foreign_texts(rows, sources, stage=name)
        return rows

    def answers(
        self,
        name: str,
        policy: Policy,
        problems: Sequence[Problem],
        *,
        samples: int,
        config: SampleConfig,
        seed: int,
        role: str = "model",
    ) -> list[GeneratedRow]:
        """Sampled answers as a stage of rows."""
        world, source = self.world, weights_fingerprint(policy)

        def make() -> StageRows[GeneratedRow]:
            sampler = world.shared_sampler_for(policy)
            rollouts = sampler.sample(problems, samples=samples, config=config, seed=seed)
            rows: list[GeneratedRow] = [
                {
                    "id": rollout.problem.id,
                    "prompt": rollout.problem.prompt,
                    "level": rollout.problem.level,
                    "sample": rollout.sample,
                    "text": rollout.text,
                    "answer": world.task.answer_of(rollout.problem, rollout.text),
                    "tokens": len(rollout.tokens),
                    "finish": rollout.finish,
                    "source": source,
                }
                for rollout in rollouts
            ]
            return StageRows(rows, generated=sum(len(r.tokens) for r in rollouts))

        inputs = {
            "problems": hash_rows([[p.id, p.prompt] for p in problems]),
            "samples": samples,
            "decoding": config.model_dump(mode="json"),
            "seed": seed,
        }
        return self.rows(name, inputs=inputs, make=make, sources={role: source})

    # --- stages that train

    def train(
        self,
        name: str,
        start: Policy,
        *,
        inputs: Mapping[str, object],
        body: Callable[[World], Policy],
        optim: OptimConfig | None = None,
        seed: int | None = None,
        evaluates: bool = True,
        facts: Mapping[str, float] | None = None,
    ) -> Policy:
        """Train a copy of `start` as a run of its own; the trained policy, read from its `final`.

        Args:
            name: of the stage.
            start: where training begins; not changed.
            inputs: hashes and settings that decide the stage beside the run's config, plain data.
            body: a method's `run` with its config: trains the policy of the world it is given.
            optim: of this stage; the run's when None.
            seed: of this stage; the run's when None.
            evaluates: False for a model that is thrown away: it stays out of the learning curves.
            facts: numbers that stand in each of the stage's rows.

        Raises:
            RunDirectoryError: the stage was begun from other weights, settings or data.
        """
        world, directory = self.world, self._directory(name)
        optim = optim or world.optim
        seed = world.seed if seed is None else seed
        first = not any(stage.evaluates for stage in self._trained)
        config = {
            **world.run.config,
            "stage": name,
            "seed": seed,
            "optim": optim.model_dump(mode="json"),
            "inputs": json.loads(json.dumps(dict(inputs))),
        }
        on_main(world.group, lambda: self._is_whole(directory))
        run = Run.open(
            directory,
            config=config,
            fingerprints={"start": weights_fingerprint(start)},
            mode="resume",
            command=f"stage {name}",
            quiet=world.run.quiet,
            group=world.group,
        )
        with run:
            if not run.finished:
                seed_everything(seed)
                when: When = "never" if not evaluates else "always" if first else "after"
                copy = start.trainable_copy()
                with world.stage(run, copy, optim=optim, seed=seed, when=when, facts=facts) as own:
                    run.finish(partial(save_trained, body(own)))
            on_main(world.group, lambda: self._note(directory, run.manifest()["id"]))
        self._trained.append(_Trained(name, directory, self._steps, evaluates))
        self._steps += optim.steps
        on_main(world.group, self._combine)
        return reopened(start, directory / "final")

    def _combine(self) -> None:
        # Written anew from the stages' own files each time: a kill can only leave an old one.
        top = self.world.run.directory
        for log in ("metrics.jsonl", "samples.jsonl"):
            rows = [
                {**row, "step": stage.offset + row["step"], "stage": stage.name}
                for stage in self._trained
                for row in read_stage_rows(stage.directory / log)
            ]
            if rows or log == "metrics.jsonl":
                write_jsonl(top / log, rows)
        last = None
        for stage in self._trained:
            for path in sorted((stage.directory / "eval").glob("step-*.json")):
                if stage.evaluates:
                    last = read_json(path)
                    last["step"] += stage.offset
                    write_json(top / "eval" / f"step-{last['step']:06d}.json", last)
        if last is not None:
            write_json(top / "eval.json", last)

    def _has_rows(
        self, directory: Path, inputs: Mapping[str, object], sources: Mapping[str, str] | None
    ) -> bool:
        """Whether a stage of rows is finished; other inputs and texts are named before its hash."""
        there = (directory / RECORD).exists() and is_finished(directory, inputs)
        if there:
            name = directory.name.partition("-")[2]
            refuse_foreign_texts(read_stage(directory)[1], sources, stage=name)
        return self._is_whole(directory) and (there or is_finished(directory, inputs))

    def _is_whole(self, directory: Path) -> bool:
        """Whether a finished stage is as it was noted; if not, what follows it is forgotten."""
        noted = self.world.run.manifest().get("stages", {})
        fault = stage_fault(directory, noted[directory.name]) if directory.name in noted else ""
        if fault:
            number = stage_number(directory.name)
            later = [name for name in noted if stage_number(name) > number]
            there = [name for name in later if (self.directory / name).exists()]
            if directory.exists() or there:
                raise RunDirectoryError(
                    f"{directory} {fault}",
                    got=f"{', '.join(there)}, made from it" if there else None,
                    why="later stages rest on what the run made there",
                    fix=f"restore it, or remove {directory} and what follows it to make it again",
                )
            say(f"{directory} {fault}: it is made again")
            kept = {name: noted[name] for name in noted if stage_number(name) < number}
            self.world.run.note_stages(kept)
        return not fault

    def _note(self, directory: Path, mark: str) -> None:
        noted = self.world.run.manifest().get("stages", {})
        if noted.get(directory.name) != mark:
            self.world.run.note_stages({**noted, directory.name: mark})

    def _directory(self, name: str) -> Path:
        self._count += 1
        return self.directory / f"{self._count:02d}-{name}"


class _Trained(NamedTuple):
    name: str
    directory: Path
    offset: int  # steps of the stages before
    evaluates: bool


# --- what a stage trains on


def epochs(items: Sequence[T], *, step: int, count: int, seed: int) -> list[T]:
    """The items of a step: every epoch is a seeded permutation; a function of its arguments."""
    out: list[T] = []
    orders: dict[int, list[int]] = {}
    for position in range((step - 1) * count, step * count):
        epoch, at = divmod(position, len(items))
        if epoch not in orders:
            gen = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            orders[epoch] = torch.randperm(len(items), generator=gen).tolist()
        out.append(items[orders[epoch][at]])
    return out


def disjoint_chunks(
    world: World, sizes: Sequence[int], *, what: str, fix: str
) -> list[list[Problem]]:
    """Training problems in chunks that share none; levels mixed by a seeded shuffle.

    Raises:
        DataError: the task has too few for `what` they are.
    """
    total, levels = sum(sizes), world.scope.levels or world.task.levels
    problems: list[Problem] = []
    for count in (-(-total // len(levels)), total):
        problems = world.task.problems(
            "train", count=count, seed=world.seed, levels=world.scope.levels
        )
        if len(problems) >= total:
            break
    if len(problems) < total:
        raise DataError(
            f"the task has too few training problems for {what}",
            got=len(problems),
            wanted=f"{total}: {' + '.join(str(size) for size in sizes if size)}",
            why="no problem is used in two of these parts",
            fix=fix,
        )
    gen = torch.Generator().manual_seed(world.seed)
    shuffled = iter([problems[i] for i in torch.randperm(len(problems), generator=gen).tolist()])
    return [[next(shuffled) for _ in range(size)] for size in sizes]


# --- the files of a stage


def hash_rows(rows: Sequence[object]) -> str:
    """Hash of rows of plain data in their order: what a later stage names as its input."""
    return hashlib.sha256(json.dumps(list(rows), sort_keys=True).encode()).hexdigest()


def refuse_foreign_texts(
    rows: Sequence[Mapping[str, object]], sources: Mapping[str, str] | None, *, stage: str
) -> None:
    """Every row's `source` must be one of the named models; a pair names one for each side.

    Raises:
        DataError: names the first row by its id, and what was expected.
    """
    if sources is None:
        return
    roles = {fingerprint: role for role, fingerprint in sources.items()}
    for row in rows:
        named = [value for key, value in row.items() if key == "source" or key.endswith("_source")]
        wrong = [value for value in named if value not in roles]
        if wrong or not named:
            raise DataError(
                f"stage '{stage}': row '{row.get('id')}' is not by a model of this run",
                got=f"source {str(wrong[0])[:12]}" if wrong else "no source",
                wanted=", ".join(f"{role} {value[:12]}" for role, value in sources.items()),
                why="training on another model's texts would be another method",
                fix="remove the stage's directory and what follows it, to make them again from the "
                "models of this run",
            )

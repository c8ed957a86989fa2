"""The stages of a method that generates, selects and trains in turn.

    RUN/stages/01-candidates/   rows.jsonl  stage.json          a stage that makes rows
    RUN/stages/02-dpo/          a run directory of its own      a stage that trains

A finished stage is taken up as it is on resume, never made again; one that was cut off goes on from
its own checkpoints. `stage.json` says what the rows were made from (hashes of models and of earlier
rows, seed, decoding), how many were kept, and how many were dropped and why. A row's `source` is
the hash of the model that wrote its text: a text by any model but those named is an error.

After each stage the metrics and evaluations of all stages so far are written at the top of the run
directory, steps counted through.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rekindle.engine.config import OptimConfig, SampleConfig
from rekindle.engine.device import on_main, seed_everything
from rekindle.engine.fingerprints import weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.engine.run import Run
from rekindle.errors import DataError, RunDirectoryError
from rekindle.files import (
    clear_leftovers,
    read_json,
    read_jsonl,
    remove_tree,
    sha256_file,
    write_json,
    write_jsonl,
)
from rekindle.loops.evaluation import When
from rekindle.loops.world import World
from rekindle.records import Problem

Row = dict[str, Any]
_ROWS, _RECORD = "rows.jsonl", "stage.json"


@dataclass(frozen=True)
class StageRows:
    """What a stage made.

    Attributes:
        rows: JSON objects; texts that a model wrote come with their `source`.
        dropped: how many were left out, by reason.
        generated: tokens sampled for it, on all processes.
        facts: numbers worth keeping beside the rows (agreement, rates); nan is written as null.
    """

    rows: list[Row]
    dropped: Mapping[str, int] = field(default_factory=dict)
    generated: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


class Stages:
    """The stages of one run, numbered in the order in which they are asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directory = world.run.directory / "stages"
        self.facts: dict[str, dict[str, Any]] = {}  # stage name -> its stage.json or manifest facts
        self._done: list[_Trained] = []
        self._count = 0

    # --- stages that make rows

    def rows(
        self,
        name: str,
        *,
        inputs: Mapping[str, Any],
        make: Callable[[], StageRows],
        sources: Mapping[str, str] | None = None,
    ) -> list[Row]:
        """The rows of a stage: read back where it is finished, made and written where not.

        Args:
            name: of the stage; part of its directory's name.
            inputs: everything that decides the rows: hashes (`hash_rows`, `weights_fingerprint`),
                seed, decoding, thresholds. Plain data.
            make: called on all processes when there is nothing to take up; the same on all.
            sources: role -> fingerprint of each model whose texts may be among the rows. None:
                no row carries a model's text.

        Raises:
            RunDirectoryError: the stage was made from other inputs, or its file was changed since.
            DataError: a text by a model that is not among `sources`.
        """
        place = self._place(name)
        inputs = {**json.loads(json.dumps(dict(inputs))), "sources": dict(sources or {})}
        found = on_main(self.world.group, lambda: _taken_up(place, inputs))
        if found is None:
            began = time.perf_counter()
            made = make()
            refuse_foreign_texts(made.rows, sources, stage=name)
            record = {
                "stage": name,
                "inputs": inputs,
                "kept": len(made.rows),
                "dropped": dict(made.dropped),
                "generated": made.generated,
                "seconds": time.perf_counter() - began,
                **made.facts,
            }
            on_main(self.world.group, lambda: _write_rows(place, made.rows, record))
            found = on_main(self.world.group, lambda: _read_stage(place))
        record, rows = found
        refuse_foreign_texts(rows, sources, stage=name)
        self.facts[name] = record
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
    ) -> list[Row]:
        """Sampled answers as a stage of rows: `id, prompt, level, sample, text, answer, tokens,
        finish, source`. `answer` is what the task reads out of the text, null when nothing."""
        world, source = self.world, weights_fingerprint(policy)

        def make() -> StageRows:
            sampler = world.shared_sampler_for(policy)
            rollouts = sampler.sample(problems, samples=samples, config=config, seed=seed)
            rows = [
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

        asked = [[p.id, p.prompt] for p in problems]
        inputs = {
            "problems": _digest(asked),
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
        inputs: Mapping[str, Any],
        body: Callable[[World], Policy],
        optim: OptimConfig | None = None,
        seed: int | None = None,
        evaluates: bool = True,
        facts: Mapping[str, float] | None = None,
    ) -> Policy:
        """Train a copy of `start` as a run of its own; the trained policy, loaded from its `final`.

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
        world, place, optim = self.world, self._place(name), optim or self.world.optim
        seed = world.seed if seed is None else seed
        first = not any(done.evaluates for done in self._done)
        config = {
            **world.run.config,
            "stage": name,
            "seed": seed,
            "optim": optim.model_dump(mode="json"),
            "inputs": json.loads(json.dumps(dict(inputs))),
        }
        run = Run.open(
            place,
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
                    run.finish(body(own).save)
        self._done.append(_Trained(name, place, optim.steps, evaluates))
        on_main(world.group, self._combine)
        return Policy.load(start.config.model_copy(update={"name": str(place / "final")}))

    def _combine(self) -> None:
        # Made anew from the stages' own files each time, so that a kill can only leave an old one.
        top, offset = self.world.run.directory, 0
        metrics: list[Row] = []
        samples: list[Row] = []
        last: Row | None = None
        for stage in self._done:
            for row in _read(stage.place / "metrics.jsonl"):
                metrics.append({**row, "step": offset + row["step"], "stage": stage.name})
            for row in _read(stage.place / "samples.jsonl"):
                samples.append({**row, "step": offset + row["step"], "stage": stage.name})
            if stage.evaluates:
                for path in sorted((stage.place / "eval").glob("step-*.json")):
                    last = read_json(path)
                    last["step"] += offset
                    write_json(top / "eval" / f"step-{last['step']:06d}.json", last)
            offset += stage.steps
        write_jsonl(top / "metrics.jsonl", metrics)
        if samples:
            write_jsonl(top / "samples.jsonl", samples)
        if last is not None:
            write_json(top / "eval.json", last)

    def _place(self, name: str) -> Path:
        self._count += 1
        return self.directory / f"{self._count:02d}-{name}"


@dataclass(frozen=True)
class _Trained:
    name: str
    place: Path
    steps: int
    evaluates: bool


def hash_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Hash of rows in their order: what a later stage names as its input."""
    return _digest(list(rows))


def refuse_foreign_texts(
    rows: Sequence[Mapping[str, Any]], sources: Mapping[str, str] | None, *, stage: str
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
                fix="remove the stage's directory to make it again from the models of this run",
            )


def _taken_up(place: Path, inputs: Mapping[str, Any]) -> tuple[Row, list[Row]] | None:
    clear_leftovers(place)
    if not (place / _RECORD).exists():
        remove_tree(place)
        return None
    record = read_json(place / _RECORD)
    changed = [
        f"{key}: {record['inputs'].get(key)!r} -> {inputs.get(key)!r}"
        for key in dict.fromkeys([*inputs, *record["inputs"]])
        if record["inputs"].get(key) != inputs.get(key)
    ]
    if changed:
        raise RunDirectoryError(
            f"{place} was made from something else:\n    " + "\n    ".join(changed),
            why="later stages would rest on rows that this run would not have made",
            fix=f"remove {place} and what follows it, or start again with --overwrite",
        )
    if sha256_file(place / _ROWS) != record["rows_sha256"]:
        raise RunDirectoryError(
            f"{place / _ROWS} was changed since the stage was finished",
            why="the record beside it would then be of other rows",
            fix=f"restore it, or remove {place} to make it again",
        )
    return _read_stage(place)


def _read_stage(place: Path) -> tuple[Row, list[Row]]:
    return read_json(place / _RECORD), _read(place / _ROWS)


def _write_rows(place: Path, rows: list[Row], record: Row) -> None:
    write_jsonl(place / _ROWS, rows)
    write_json(place / _RECORD, {**record, "rows_sha256": sha256_file(place / _ROWS)})


def _read(path: Path) -> list[Row]:
    there = path.exists() and path.stat().st_size > 0  # a stage may have kept nothing
    return [row for _, row in read_jsonl(path)] if there else []


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

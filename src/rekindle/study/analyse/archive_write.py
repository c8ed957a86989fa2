"""A study as small files, written: enough to compute every number again, show its page, resume.

Of each run, without weights and checkpoints: its config and manifest, every evaluation with its
per-problem outcomes, its rounds and the records of its stages, what it cost and where its time
went, at most `ROWS` rows of a log (all, where another arm's runs read it; of all runs of an arm the
same steps, so that they have means), and its last rollouts. Of one run of each arm the first pairs
too, with what its stages say of their texts. Numbers keep six digits.
"""

from __future__ import annotations

import json
import lzma
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rekindle.errors import ConfigError, RunDirectoryError
from rekindle.files import (
    each_leaf,
    read_json,
    read_jsonl,
    write_atomic,
    write_json,
    written_aside,
)
from rekindle.outputs import PAGE, OutputFile, kind_of, move_files
from rekindle.study.analyse.run_times import TIMES, kept_times
from rekindle.study.analyse.spending import spent_by
from rekindle.study.plan.planning import OTHER_RUN
from rekindle.study.schema import ArchivedRun
from rekindle.study.store.archive_read import OWN, RUNS, is_archive
from rekindle.study.store.layout import (
    DECLARED,
    MANIFEST,
    RESULTS,
    SPENT,
    is_finished,
    is_study,
    read_head,
    read_results,
)

T = TypeVar("T")
ROWS = 40  # of a log of metrics, at most; evenly spaced, the first and the last among them
ROLLOUTS = 24  # of a run's samples, the last ones
PAIRED = 24  # problems whose pairs are kept of one run of each arm
_DIGITS = 6
_NOT_KEPT = {"checkpoints", "stages", "final"}
_JSON = ("eval.json", "eval/*.json", "stages/*/stage.json")
_LOGS = {"metrics.jsonl": "step", "stages/rounds.jsonl": "round"}  # what a row counts


def archive_study(place: Path, out: Path, *, overwrite: bool = False) -> Path:
    """Write the small files of the study in `place` to the directory `out`.

    Runs that are not finished are left out, as in its results. An earlier archive of the study in
    `out`, which is returned, is replaced; with `overwrite` that of another study too. All files are
    made before the first is put in its place.

    Raises:
        RunDirectoryError: `place` is no study or is an archive already, has no results yet, or a
            run of the results is gone; `out` is something else than an archive of the study.
        DataError: its results are damaged.
    """
    if is_archive(place):
        raise RunDirectoryError(
            f"{place} is an archive already",
            wanted="the directory of a study, with its runs",
            why="an archive holds its runs packed",
            fix=f"copy it as it is; rekindle report {place} makes its page again",
        )
    if not is_study(place) or not (place / RESULTS).exists():
        raise RunDirectoryError(
            f"{place} holds no study with results",
            wanted=f"the --out of a `rekindle study` that wrote {RESULTS}",
            fix="finish it: rekindle study ... --resume",
        )
    refuse_foreign(place, out, overwrite=overwrite)
    results = read_results(place)
    read_by_others = set(OTHER_RUN.findall((place / DECLARED).read_text(encoding="utf-8")))
    lines = []
    for arm, block in results.arms.items():
        runs = [place.joinpath("runs", *Path(run.out).parts[-3:]) for run in block.runs]
        strides = dict.fromkeys(_LOGS, 1) if arm in read_by_others else _strides(runs)
        for i, run in enumerate(runs):
            files = _files_of(run, results.command, pairs=i == 0, strides=strides)
            lines.append(ArchivedRun(place="/".join(run.parts[-3:]), arm=arm, files=files))
    with written_aside(out, "exporting to") as aside:
        for name in OWN:
            if (place / name).exists():
                write_json(aside / name, read_json(place / name))
        write_atomic(aside / DECLARED, (place / DECLARED).read_bytes())
        text = _text(line.plain() for line in lines)
        # the window of this preset is wide: runs repeat each other
        write_atomic(aside / RUNS, lzma.compress(text.encode(), preset=6))
        move_files(aside, Path(os.path.realpath(out)))
    return out


def refuse_foreign(place: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse a directory that is there and is no archive of the study in `place`.

    Raises:
        ConfigError: it is the study itself.
        RunDirectoryError: it is something else; what it is is named.
    """
    target = Path(os.path.realpath(out))
    if target == Path(os.path.realpath(place)):
        raise ConfigError(
            f"--out {out} is the study itself",
            why="an archive has files of the same names",
            fix="give another --out",
        )
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        OutputFile(out / PAGE).check()  # the new directory may lie in another run
        return
    if not target.is_dir():
        raise RunDirectoryError(f"{out} is a file", wanted="a directory", fix="check --out")
    kind = kind_of(target)
    if kind != "an exported study":
        raise RunDirectoryError(
            f"{out} is no archive of a study",
            got=kind or "a directory with other files",
            wanted=f"a new directory, or one with {RUNS} of this study",
            why="nothing is mixed with or replaced by an archive but an earlier one",
            fix="give another --out",
        )
    mine, there = read_head(place), read_head(target)
    same = mine.study == there.study and (None in (mine.id, there.id) or mine.id == there.id)
    if not same and not overwrite:
        raise RunDirectoryError(
            f"{out} is an archive of another study",
            got=f"'{there.study}', begun as {there.id or 'unknown'}",
            wanted=f"'{mine.study}', begun as {mine.id or 'unknown'}",
            why="its runs may be nowhere else",
            fix="give another --out, or --overwrite to replace it",
        )


def _files_of(
    place: Path, command: str, *, pairs: bool, strides: Mapping[str, int]
) -> dict[str, str]:
    if not is_finished(place):
        raise RunDirectoryError(
            f"{place} is named by {RESULTS} and is not finished",
            why="an archive without it could not show the same numbers",
            fix="rekindle study ... --resume",
        )
    # What a worker was started by is a path of the machine that it ran on.
    files = {
        "config.yaml": (place / "config.yaml").read_text(encoding="utf-8"),
        MANIFEST: _text([_archived(read_json(place / MANIFEST), command)]),
        SPENT: json.dumps(spent_by(place).plain()),
    }
    times = kept_times(place)
    if times is not None:
        files[TIMES] = _text([times])
    for pattern in _JSON:
        for path in sorted(place.glob(pattern)):
            files[path.relative_to(place).as_posix()] = _text([read_json(path)])
    for name, key in _LOGS.items():
        if (place / name).exists():
            rows = [row for _, row in read_jsonl(place / name)]
            files[name] = _text(_thinned(rows, [row[key] for row in rows], strides[name]))
    if (place / "samples.jsonl").exists():
        rows = [row for _, row in read_jsonl(place / "samples.jsonl")]
        files["samples.jsonl"] = _text(rows[-ROLLOUTS:])
    return files | (_pairs_of(place) if pairs else {})


def _archived(manifest: Mapping[str, object], command: str) -> dict[str, object]:
    """Without the hashes of what an archive leaves out."""
    kept = {key: value for key, value in manifest.items() if key not in _NOT_KEPT}
    return {**kept, "command": command}


def _pairs_of(place: Path) -> dict[str, str]:
    """The stages' rows about the first problems that pairs were made of."""
    rows = {
        path: [row for _, row in read_jsonl(path)]
        for path in sorted(place.glob("stages/*/rows.jsonl"))
    }
    paired = [row["id"] for path in rows if "-pairs" in path.parent.name for row in rows[path]]
    kept = set(list(dict.fromkeys(paired))[:PAIRED])
    return {
        path.relative_to(place).as_posix(): _text([r for r in of if r.get("id") in kept])
        for path, of in rows.items()
        if kept
    }


def _strides(places: Sequence[Path]) -> dict[str, int]:
    """How far apart the rows are that are kept of each log, by the longest of some runs."""
    out = {}
    for name, key in _LOGS.items():
        paths = [place / name for place in places if (place / name).exists()]
        logs = [[row[key] for _, row in read_jsonl(path)] for path in paths]
        last = max((max(steps, default=0) for steps in logs), default=0)
        whole = all(len(steps) <= ROWS for steps in logs)
        out[name] = 1 if whole else math.ceil(last / (ROWS - 2))
    return out


def _thinned(rows: Sequence[T], counts: Sequence[int], stride: int) -> list[T]:
    """The first row, the first at or after each multiple of `stride`, and the last."""
    if stride == 1:
        return list(rows)
    firsts = {count // stride: i for i, count in reversed(list(enumerate(counts)))}
    kept = {*firsts.values(), len(rows) - 1}
    return [row for i, row in enumerate(rows) if i in kept]


def _text(rows: Iterable[object]) -> str:
    short = (each_leaf(row, _short) for row in rows)
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in short)


def _short(value: object) -> object:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value

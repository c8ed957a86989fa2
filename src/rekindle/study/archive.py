"""A study as small files: enough to recompute every number, to show its page, and to go on with it.

    study.json  study.yaml  manifest.json  sessions.json     as the study wrote them
    runs.jsonl.xz                                            one line a finished run

Of each run, without weights and checkpoints: its config and manifest, every evaluation with its
per-problem outcomes, its rounds and the records of its stages, what it cost, metrics rows at most
`ROWS` of a log (all, where another arm's runs read it), and its last rollouts. Of one run of each
arm the first pairs too, with what its stages say of their texts. Numbers keep six digits.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rekindle.errors import DataError, RunDirectoryError
from rekindle.files import explained_io, read_json, read_jsonl, write_atomic, write_json
from rekindle.study.design import OTHER_RUN, load_study, plan
from rekindle.study.places import (
    DECLARED,
    MANIFEST,
    RESULTS,
    SESSIONS,
    SPENT,
    is_finished,
    is_study,
)
from rekindle.study.results import spent_by, study_results

RUNS = "runs.jsonl.xz"
ROWS = 40  # of a log of metrics, evenly spaced, the first and the last among them
ROLLOUTS = 24  # of a run's samples, the last ones
PAIRED = 24  # problems whose pairs are kept of one run of each arm
_DIGITS = 6
_OWN = (RESULTS, MANIFEST, SESSIONS)
_JSON = ("eval.json", "eval/*.json", "stages/*/stage.json")
_LOGS = ("metrics.jsonl", "stages/rounds.jsonl")


def is_archive(place: Path) -> bool:
    """Whether a directory holds an archived study, and not the study itself."""
    return (place / RUNS).is_file() and not (place / "runs").exists()


def archive_study(place: Path, out: Path) -> Path:
    """Write the small files of the study in `place` to the directory `out`.

    Args:
        place: a study directory; runs that are not finished are left out, as in its results.
        out: a directory; the four files in it are replaced.

    Returns:
        `out`.

    Raises:
        RunDirectoryError: `place` is no study, has no results yet, or a run of the results is gone.
    """
    if not is_study(place) or not (place / RESULTS).exists():
        raise RunDirectoryError(
            f"{place} holds no study with results",
            wanted=f"the --out of a `rekindle study` that wrote {RESULTS}",
            fix="finish it: rekindle study ... --resume",
        )
    results = read_json(place / RESULTS)
    read_by_others = set(OTHER_RUN.findall((place / DECLARED).read_text(encoding="utf-8")))
    lines = []
    for arm, block in results["arms"].items():
        for i, run in enumerate(block["runs"]):
            parts = Path(run["out"]).parts[-3:]
            found = _files_of(
                place.joinpath("runs", *parts),
                results["command"],
                pairs=i == 0,
                whole=arm in read_by_others,
            )
            lines.append({"place": "/".join(parts), "arm": arm, "files": found})
    with explained_io(out, "creating"):
        out.mkdir(parents=True, exist_ok=True)
    for name in _OWN:
        if (place / name).exists():
            write_json(out / name, read_json(place / name))
    write_atomic(out / DECLARED, (place / DECLARED).read_bytes())
    write_atomic(out / RUNS, _packed(lines))
    return out


def take_up(archive: Path, out: Path) -> None:
    """Make `out` a study directory with the finished runs of an archive, to be resumed.

    Raises:
        RunDirectoryError: `archive` is none, or `out` exists.
        DataError: the archive is damaged.
    """
    if not is_archive(archive):
        raise RunDirectoryError(
            f"{archive} is no archive of a study",
            wanted=f"a directory with {RUNS}",
            fix="rekindle export STUDY --out DIR makes one",
        )
    if out.exists():
        raise RunDirectoryError(
            f"{out} exists", fix="--resume goes on with it; --from begins a new directory"
        )
    _unpack(archive, out)


@contextmanager
def opened(place: Path) -> Iterator[Path]:
    """A study directory for reading: `place`, or what its archive holds, while the block lasts.

    Raises:
        DataError: the archive is damaged.
    """
    if not is_archive(place):
        yield place
        return
    with TemporaryDirectory(prefix="rekindle-") as aside:
        target = Path(aside) / place.resolve().name
        _unpack(place, target)
        yield target


def recomputed(place: Path) -> dict[str, Any]:
    """The results of an archived study, computed again from the outcomes that it holds.

    Raises:
        DataError: the archive is damaged.
    """
    stored = read_json(place / RESULTS)
    with opened(place) as at:
        study = load_study(at / DECLARED)
        found = study_results(study, at, plan(study, at), ())
    for arm, block in stored["arms"].items():
        for mine, theirs in zip(found["arms"][arm]["runs"], block["runs"], strict=True):
            mine["out"] = theirs["out"]
    return {**found, **{key: stored[key] for key in ("failed", "cost") if key in stored}}


def _unpack(archive: Path, out: Path) -> None:
    for name in (*_OWN, DECLARED):
        if (archive / name).exists():
            write_atomic(out / name, (archive / name).read_bytes())
    for line in _lines(archive / RUNS):
        for name, text in line["files"].items():
            write_atomic(_inside(out, "runs", line["place"], name), text)


def _files_of(place: Path, command: str, *, pairs: bool, whole: bool) -> dict[str, str]:
    if not is_finished(place):
        raise RunDirectoryError(
            f"{place} is named by {RESULTS} and is not finished",
            why="an archive without it could not show the same numbers",
            fix="rekindle study ... --resume",
        )
    # What a worker was started by is a path of the machine that it ran on.
    found = {
        "config.yaml": (place / "config.yaml").read_text(encoding="utf-8"),
        MANIFEST: _text([{**read_json(place / MANIFEST), "command": command}]),
        SPENT: json.dumps(vars(spent_by(place))),
    }
    for pattern in _JSON:
        for path in sorted(place.glob(pattern)):
            found[path.relative_to(place).as_posix()] = _text([read_json(path)])
    for name in _LOGS:
        if (place / name).exists():
            rows = [row for _, row in read_jsonl(place / name)]
            found[name] = _text(rows if whole else _thinned(rows))
    if (place / "samples.jsonl").exists():
        rows = [row for _, row in read_jsonl(place / "samples.jsonl")]
        found["samples.jsonl"] = _text(rows[-ROLLOUTS:])
    return found | (_pairs_of(place) if pairs else {})


def _pairs_of(place: Path) -> dict[str, str]:
    """The stages' rows about the first problems that pairs were made of."""
    rows = {
        path: [row for _, row in read_jsonl(path)]
        for path in sorted(place.glob("stages/*/rows.jsonl"))
    }
    made_of = [row["id"] for path, found in rows.items() if "-pairs" in path.parent.name
               for row in found]  # fmt: skip
    kept = set(list(dict.fromkeys(made_of))[:PAIRED])
    return {
        path.relative_to(place).as_posix(): _text([r for r in found if r.get("id") in kept])
        for path, found in rows.items()
        if kept
    }


def _thinned(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if len(rows) <= ROWS:
        return list(rows)
    last = len(rows) - 1
    return [rows[round(i * last / (ROWS - 1))] for i in range(ROWS)]


def _text(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(_short(row), separators=(",", ":")) + "\n" for row in rows)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return value


def _packed(lines: Iterable[Mapping[str, Any]]) -> bytes:
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    return lzma.compress(text.encode(), preset=6)  # its window is wide: runs repeat each other


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = lzma.decompress(path.read_bytes()).decode()
        return [json.loads(line) for line in text.splitlines()]
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise DataError(
            f"{path} is damaged", got=str(error), fix="restore it, or run its study again"
        ) from error


def _inside(target: Path, *parts: str) -> Path:
    """A path below `target`; an archive is a file of others and may name any."""
    path = target.joinpath(*parts)
    if not path.resolve().is_relative_to(target.resolve()):
        raise DataError(f"the archive names {'/'.join(parts)}", why="it lies outside the study")
    return path

"""A finished study as small files: enough to recompute every number and to show its page.

    study.json  study.yaml  manifest.json     as the study wrote them
    runs.jsonl.xz                             one line a run, without weights and checkpoints

Of each run: its config and manifest, every evaluation with its per-problem outcomes, its rounds and
stages, metrics rows at most `ROWS` of a log, and the rollouts of its last steps. What a run cost is
in study.json, from all rows. Numbers keep six digits.
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
from rekindle.study.design import Study, load_study, plan
from rekindle.study.places import DECLARED, MANIFEST, is_finished, is_study
from rekindle.study.results import study_results

RESULTS, RUNS = "study.json", "runs.jsonl.xz"
ROWS = 40  # of a log of metrics, evenly spaced, the first and the last among them
ROLLOUTS = 24  # of a run's samples, the last ones
_DIGITS = 6
_JSON = ("manifest.json", "eval.json", "eval/*.json", "stages/*/stage.json")
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
    lines = []
    for arm, block in results["arms"].items():
        for run in block["runs"]:
            parts = Path(run["out"]).parts[-3:]
            found = _files_of(place.joinpath("runs", *parts))
            lines.append({"place": "/".join(parts), "arm": arm, "files": found})
    with explained_io(out, "creating"):
        out.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, MANIFEST):
        write_json(out / name, read_json(place / name))
    write_atomic(out / DECLARED, (place / DECLARED).read_bytes())
    write_atomic(out / RUNS, _packed(lines))
    return out


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
        for name in (RESULTS, MANIFEST, DECLARED):
            write_atomic(target / name, (place / name).read_bytes())
        for line in _lines(place / RUNS):
            for name, text in line["files"].items():
                write_atomic(_inside(target, "runs", line["place"], name), text)
        yield target


def recomputed(place: Path) -> dict[str, Any]:
    """The results of an archived study, computed again from the outcomes that it holds.

    What runs cost is not: the archive's logs are thinned. It is taken from study.json.
    """
    stored = read_json(place / RESULTS)
    with opened(place) as opened_place:
        study: Study = load_study(opened_place / DECLARED)
        found = study_results(study, opened_place, plan(study, opened_place), ())
    for arm, block in stored["arms"].items():
        found["arms"][arm]["spent"] = block["spent"]
        for mine, theirs in zip(found["arms"][arm]["runs"], block["runs"], strict=True):
            mine.update(theirs)
    return found


def _files_of(place: Path) -> dict[str, str]:
    if not is_finished(place):
        raise RunDirectoryError(
            f"{place} is named by {RESULTS} and is not finished",
            why="an archive without it could not show the same numbers",
            fix="rekindle study ... --resume",
        )
    found = {"config.yaml": (place / "config.yaml").read_text(encoding="utf-8")}
    for pattern in _JSON:
        for path in sorted(place.glob(pattern)):
            found[path.relative_to(place).as_posix()] = _text([read_json(path)])
    for name in _LOGS:
        if (place / name).exists():
            found[name] = _text(_thinned([row for _, row in read_jsonl(place / name)]))
    if (place / "samples.jsonl").exists():
        rows = [row for _, row in read_jsonl(place / "samples.jsonl")]
        found["samples.jsonl"] = _text(rows[-ROLLOUTS:])
    return found


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

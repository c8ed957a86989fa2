"""`rekindle study` and `rekindle.run_study`: from a study file to its results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rekindle.engine.progress import say
from rekindle.engine.rundir import Mode
from rekindle.errors import ConfigError, RunDirectoryError
from rekindle.outputs import refuse_read_below
from rekindle.study.plan.planning import load_study, plan, preparations
from rekindle.study.plan.study_file import PlannedRun, Study
from rekindle.study.run.executors import check_executor, make_executor, warm_up
from rekindle.study.run.preflight import check_inputs
from rekindle.study.run.progress import announce
from rekindle.study.run.runner import Work, execute_study
from rekindle.study.schema import StudyResults
from rekindle.study.store.archive_read import refuse_taking, unpack_into, unpacked
from rekindle.study.store.claim import OWN, refuse_start, refuse_unlike
from rekindle.study.store.layout import MANIFEST, is_finished
from rekindle.study.store.relocate import known_roots


def run_study(
    study: Path | str | Mapping[str, object],
    out: Path | str,
    *,
    mode: Mode = "new",
    archive: Path | str | None = None,
    jobs: int | None = None,
    executor: str = "local",
    overrides: Sequence[str] = (),
    quiet: bool = False,
    command: str = "",
    since: float | None = None,
) -> StudyResults:
    """Run every arm of a study on every base model and seed, and compare them as it declares.

    Workers are processes of their own and never import the calling script: it needs no
    `if __name__ == "__main__":`.

    Args:
        study: a study file, or the same as a mapping (see `docs/study.md`).
        out: the study's directory; `study.json` in it holds what is returned.
        mode: `resume` continues what is in `out`, `overwrite` replaces it.
        archive: begin `out` with the finished runs of this archive; only with mode `new`.
        jobs: how many runs at once; None: one a GPU, or one a core.
        executor: `local`, or `ray` for a cluster.
        overrides: `section.key=value`, as `--set`.
        quiet: print no progress.
        command: for the manifest; empty: the calling script.
        since: `time.monotonic()` when the session began, for its cost; None: now.

    Returns:
        The results, frozen: `.comparisons` with their verdicts, `.arms`, `.failed` (runs that did
        not finish, which are left out of the comparisons), ...

    Raises:
        ConfigError: the study file, a recipe or an option makes no sense.
        RunDirectoryError: `out` exists (new), is no study, is in use, or holds runs that were made
            with other settings.
        DataError: a file of the study is missing or damaged.
        SystemExit: with `errors.EXIT_RESUMABLE` after SIGTERM or SIGINT, everything saved.
    """
    since = time.monotonic() if since is None else since
    check_executor(executor, jobs)
    if executor == "local":
        warm_up()
    checked, runs = _load(study, Path(out), overrides, mode=mode, archive=archive, quiet=quiet)
    if mode == "overwrite":
        file = [study] if isinstance(study, str | Path) else []
        refuse_read_below(Path(out), OWN, [*file, *checked.bases])
    pool = make_executor(executor, jobs)
    if archive is not None:
        begin_from(checked, Path(archive), Path(out), mode=mode)
        mode = "resume"
        check_inputs(checked, runs)
    return execute_study(
        checked, Path(out), executor=pool, mode=mode, command=command, quiet=quiet, since=since
    )


def preview_study(
    study: Path | str | Mapping[str, object],
    out: Path | str,
    *,
    mode: Mode = "new",
    archive: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> None:
    """Print what would run, and refuse what `run_study` would; writes nothing."""
    checked, runs = _load(study, Path(out), overrides, mode=mode, archive=archive, quiet=False)
    if archive is None:
        refuse_start(checked, Path(out), runs, mode=mode)
        say(_left_to_run(checked, Path(out), runs, mode=mode))
        return
    _refuse_other_mode(mode)
    refuse_taking(Path(archive), Path(out))
    with unpacked(Path(archive)) as place:
        _refuse_other_archive(checked, place, Path(archive))
        there = plan(checked, place)
        check_inputs(checked, there)
        say(_left_to_run(checked, place, there, mode="resume"))


def begin_from(study: Study, archive: Path, out: Path, *, mode: Mode) -> None:
    """Make `out` a study directory with the finished runs of an archive of the same study.

    ConfigError where `mode` is not `new`; RunDirectoryError or DataError where `out` exists, or the
    archive is another study's, or damaged.
    """
    _refuse_other_mode(mode)
    unpack_into(archive, out, check=lambda place: _refuse_other_archive(study, place, archive))


def _load(
    source: Path | str | Mapping[str, object],
    out: Path,
    overrides: Sequence[str],
    *,
    mode: Mode,
    archive: Path | str | None,
    quiet: bool,
) -> tuple[Study, list[PlannedRun]]:
    """The study and its runs, checked and announced."""
    study = load_study(source, overrides)
    runs = plan(study, out)
    if mode == "resume" and not out.exists():
        say(f"{out} does not exist: a new study begins")
    if archive is None:  # it brings finished runs, which need nothing
        check_inputs(study, runs)
    if not quiet:
        announce(study, runs, preparations(study, out))
    return study, runs


def _left_to_run(study: Study, out: Path, runs: Sequence[PlannedRun], *, mode: Mode) -> str:
    """How many runs are finished, and what would run now."""
    if mode == "overwrite":
        begun = len(list(out.glob(f"runs/*/*/*/{MANIFEST}")))
        return f"to run: {_many(len(runs), 'run')}; {_many(begun, 'existing run')} would be removed"
    work = Work(list(runs), preparations(study, out))
    work.load(known_roots(out))
    done = sum(run.out in work.done for run in runs)
    before = sum(job.recipe is None for job in work.waiting())
    ahead = f" and {_many(before, 'preparation')}" if before else ""
    left = f"to run: {_many(len(runs) - done, 'run')}{ahead}"
    if done == len(runs):
        left = "nothing is left to run"
    return f"finished: {done} of {_many(len(runs), 'run')}; {left}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _refuse_other_mode(mode: Mode) -> None:
    if mode != "new":
        raise ConfigError(
            f"--from and --{mode} exclude each other",
            why="--from begins a new directory with the runs of another study",
            fix="--from once, --resume from then on",
        )


def _refuse_other_archive(study: Study, place: Path, archive: Path) -> None:
    """Refuse an archive, unpacked to `place`, that is not this study's."""
    runs = plan(study, place)
    refuse_unlike(study, place, runs)
    if not any(is_finished(run.out) for run in runs):
        raise RunDirectoryError(
            f"{archive} holds no run of this study",
            wanted=f"finished runs such as {runs[0].out.relative_to(place)}",
            why="it is the archive of another study, and none of its runs could be used",
            fix="check --from and the study file",
        )

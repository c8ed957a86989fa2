"""Where a command writes what its user names: one rule for every file.

    nothing there, or an empty file       it is written
    a file with the mark of its maker     it is replaced
    any other file                        it is replaced with `overwrite`, else refused
    what the command reads, a directory, a file of a run or a study, a device: always refused

A symbolic link is followed: what it points at is checked and replaced, and the link stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rekindle.errors import ConfigError, DataError, RunDirectoryError
from rekindle.files import explained_io, fsync_dir, json_text, read_json, write_atomic

PAGE = "report.html"  # a page is written beside what it shows
REPORT_MARK = re.compile(
    rb'<meta name="generator" content="rekindle (?:report |\d)'
)  # \d: the first
DIAGNOSIS_MARK = re.compile(rb'<meta name="generator" content="rekindle diagnose ')
TOUR_MARK = re.compile(rb'<meta name="generator" content="rekindle (?:quickstart |\d)')
_HEAD = 8192  # bytes of a file among which its mark is
ARCHIVED = "runs.jsonl.xz"  # what an exported study has and a study has not
# What lies in a directory that rekindle made: no other command writes there.
KEPT = frozenset(
    "checkpoints stages final eval eval.json metrics.jsonl samples.jsonl tensorboard wandb "
    "config.yaml manifest.json .lock half weak_states candidates.jsonl spent.json runs prepared "
    f"models study.json study.yaml sessions.json {ARCHIVED}".split()
)


@dataclass(frozen=True)
class OutputFile:
    """A file that a command is going to write.

    Attributes:
        path: as the user named it.
        option: what it was named by.
        reads: files and directories that the command reads; names that are no path are skipped.
        mark: what is found near the beginning of each file of this command; None: they have none.
        overwrite: replace a file without the mark.
    """

    path: Path
    option: str = "--out"
    reads: tuple[Path, ...] = ()
    mark: re.Pattern[bytes] | None = None
    overwrite: bool = False

    @property
    def target(self) -> Path:
        """The place that is written: what a symbolic link points at."""
        return Path(os.path.realpath(self.path))

    def check(self) -> None:
        """Refuse what must not be replaced, before any work is done for it.

        Raises:
            ConfigError: it is what the command reads.
            RunDirectoryError: there is something else that is kept, or it cannot be looked at.
        """
        with explained_io(self.path, "looking at"):
            self._refuse_kinds()
            marked = self.mark is not None and has_mark(self.target, self.mark)
            self._refuse_reads(marked)
            self._refuse_parts()
            if marked or self.overwrite or not self._is_filled():
                return
            raise RunDirectoryError(
                f"{self.path} exists",
                got=f"a file of {self.target.stat().st_size:,} bytes"
                + ("" if self.mark is None else " that this command did not write"),
                why="nothing is replaced that was not meant to be",
                fix=f"give another {self.option}, or --overwrite to replace it",
            )

    def write(self, data: bytes | str) -> None:
        """Write the file as a whole; what is there is checked again."""
        self.check()
        write_atomic(self.target, data)

    def write_json(self, value: object) -> None:
        """The same of indented JSON; nan and infinity become null."""
        self.write(json_text(value, indent=2))

    def write_jsonl(self, rows: Iterable[Mapping[str, object]]) -> None:
        """The same of one JSON object a line."""
        self.write(b"".join(json_text(row) for row in rows))

    def _is_filled(self) -> bool:
        return self.target.exists() and self.target.stat().st_size > 0

    def _refuse_kinds(self) -> None:
        target = self.target
        if target.is_symlink():
            raise RunDirectoryError(
                f"{self.path} is a symbolic link that leads to itself",
                fix=f"remove it, or give another {self.option}",
            )
        if target.is_dir():
            raise RunDirectoryError(
                f"{self.path} is a directory",
                got=kind_of(target) or "a directory",
                wanted="a file",
                fix=f"give {self.option} a file's name",
            )
        if target.exists() and not target.is_file():
            raise RunDirectoryError(
                f"{self.path} is no file",
                got="a device, a pipe or a socket",
                why="a file is put in its place as a whole, which would remove it",
                fix=f"give {self.option} a file's name",
            )

    def _refuse_reads(self, marked: bool) -> None:
        for read in self.reads:
            how = _shared(self.target, read, inside=not marked)
            if how is not None:
                raise ConfigError(
                    f"{self.option} {self.path} is what the command reads as well",
                    got=how,
                    wanted="a file of its own",
                    why="the one would replace the other",
                    fix=f"give another {self.option}",
                )

    def _refuse_parts(self) -> None:
        for directory in self.target.parents:
            kind = kind_of(directory)
            if kind is None:
                continue
            part = self.target.relative_to(directory).parts[0]
            if part.casefold() in KEPT:
                raise RunDirectoryError(
                    f"{self.option} {self.path} is part of {kind}",
                    got=f"{part} in {directory}",
                    why="what others read there would be lost or mixed, also with --overwrite",
                    fix=f"give another {self.option}",
                )
            return  # it is inside this one, whatever that lies in


def kind_of(directory: Path) -> str | None:
    """What rekindle made of a directory: a run, a study, an exported study; None: nothing."""
    manifest = directory / "manifest.json"
    if not manifest.is_file():
        whole = ("config.yaml", "metrics.jsonl", "checkpoints")
        return "a run directory" if all((directory / name).exists() for name in whole) else None
    try:
        tree = read_json(manifest)
    except (DataError, OSError):  # damaged: still ours where the config is beside it
        return "a run directory" if (directory / "config.yaml").exists() else None
    if not isinstance(tree, dict) or not {"rekindle", "fingerprints"} <= tree.keys():
        return None
    if "study" not in tree:
        return "a run directory"
    packed = (directory / ARCHIVED).exists() and not (directory / "runs").exists()
    return "an exported study" if packed else "a study directory"


def has_mark(path: Path, mark: re.Pattern[bytes]) -> bool:
    """Whether a file begins with the mark of its maker, or has it soon after."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return mark.search(file.read(_HEAD)) is not None


def refuse_read_below(
    directory: Path, names: Iterable[str], reads: Iterable[Path | str], *, option: str = "--out"
) -> None:
    """Refuse to replace a directory's own files where one of them is read to make the new ones.

    Raises:
        ConfigError: a path among `reads` is one of `names` in `directory`, or lies below one.
    """
    root = Path(os.path.realpath(directory))
    own = set(names)
    for read in reads:
        place = Path(os.path.realpath(read))
        if not place.exists() or not place.is_relative_to(root) or place == root:
            continue
        part = place.relative_to(root).parts[0]
        if part in own:
            raise ConfigError(
                f"--overwrite would remove {read}, which the command reads",
                got=f"{part} in {option} {directory}",
                why="nothing could be made from it any more",
                fix=f"copy it to another place first, or give another {option}",
            )


def move_files(source: Path, target: Path) -> None:
    """Put each file of a directory into another one, which is made; its other files stay."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        os.replace(path, target / path.name)
    fsync_dir(target)


def _shared(target: Path, read: Path, *, inside: bool) -> str | None:
    """How a file and what is read are the same; None where they are not."""
    place = Path(os.path.realpath(read))
    if place == target:
        return str(read)
    if not place.exists():
        return None
    if not place.is_dir():
        same = target.exists() and os.path.samefile(target, place)
        return f"another name of {read}" if same else None
    if not inside or not target.exists() or target.stat().st_size == 0:
        return None
    if place in target.parents:
        return f"a file in {read}"
    about = target.stat()
    if about.st_nlink > 1:
        for path in place.rglob("*"):
            if path.is_file() and os.path.samestat(about, path.stat()):
                return f"another name of {path}"
    return None

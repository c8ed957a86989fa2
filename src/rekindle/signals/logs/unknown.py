"""What is said of a path that holds no log that is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rekindle.errors import DataError
from rekindle.signals.logs.lines import Damage
from rekindle.signals.logs.mapped import KEYS, natural, tables_under
from rekindle.signals.logs.tables import column_names, each_row

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy", ".npz", ".joblib", ".ckpt")
SHOWN = 3  # names of files in a message
NO_ROLLOUTS = {
    "openrlhf": "OpenRLHF (0.11) writes no rollouts: nothing can be read but its metrics "
    "(--use_tensorboard DIR, --use_wandb)",
}
_MAP = (
    "name the columns: --map score=COLUMN,text=COLUMN,group=COLUMN,step=COLUMN "
    f"(keys: {', '.join(KEYS)})"
)


def unknown(path: Path, format: str | None, found_by: Mapping[str, str]) -> DataError:
    """The error for a path without a log that is known; what is there is described.

    Args:
        format: the one that was asked for.
        found_by: the files by which each format is found.
    """
    if format in NO_ROLLOUTS:
        return DataError(
            f"{path} holds no rollouts and no metrics of {format}",
            why=NO_ROLLOUTS[format],
            fix="give the directory of its TensorBoard or W&B files",
        )
    known = "; ".join(f"{name}: {files}" for name, files in found_by.items())
    files = [path] if path.is_file() else sorted(path.rglob("*"), key=natural)
    tables = tables_under(path)
    if tables:
        what = f"is no log of {format}" if format else "is no log that is known"
        return DataError(
            f"{path} {what}",
            got=_described(tables),
            wanted=known,
            why="a layout that is not known is not guessed",
            fix=_MAP,
        )
    pickles = [file for file in files if file.suffix.lower() in PICKLES]
    offline = [file for file in files if file.suffix == ".wandb"]
    if offline:
        return DataError(
            f"{path} has a W&B run that only wandb can read",
            got=_names(offline),
            wanted=known,
            fix=f"wandb sync {offline[0].parent}, then export its history: "
            "wandb.Api().run('ENTITY/PROJECT/ID').history(pandas=False) as JSON lines",
        )
    if pickles:
        return DataError(
            f"{path} has pickles alone, which are never loaded",
            got=_names(pickles),
            wanted=known,
            why="a pickle runs code when it is loaded; it may hold the rollouts, and may not",
            fix="write them out where they were made, as JSON lines, and name the columns: --map",
        )
    return DataError(
        f"{path} has no log that can be read",
        got="no file" if not any(file.is_file() for file in files) else _names(files),
        wanted=known,
        fix="give the directory into which the trainer writes its rollouts or metrics",
    )


def _names(files: list[Path]) -> str:
    names = [file.name for file in files if file.is_file()]
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _described(tables: list[Path]) -> str:
    """How many files, and the columns of the first that has any."""
    count = f"{len(tables)} file{'s' * (len(tables) > 1)}"
    for table in tables:
        if table.stat().st_size:
            columns = column_names(table)
            if columns:
                return f"{count}, {table.name} with {', '.join(columns)}"
    return f"{count}, all empty" if not any(t.stat().st_size for t in tables) else _broken(tables)


def _broken(tables: list[Path]) -> str:
    """Reads the first to its end, which says what is wrong with it."""
    for _ in each_row(tables[0], lambda row, _: None, Damage()):
        pass
    return f"{len(tables)} files without a whole row"

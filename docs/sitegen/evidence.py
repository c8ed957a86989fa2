"""Writes the table of committed studies that ships with the package.

PYTHONPATH=docs python -m sitegen.evidence results/studies
"""

from __future__ import annotations

import sys
from pathlib import Path

from rekindle.errors import DataError
from rekindle.files import write_json
from rekindle.study.evidence import STUDIES, TABLE, EvidenceRow, has_oracle
from rekindle.study.store.layout import RESULTS, read_results


def gather(results: Path) -> dict[str, EvidenceRow]:
    """Method -> the declared comparison of its study below `results`.

    Raises:
        DataError: a method has no study there.
    """
    rows = {}
    for method, names in STUDIES.items():
        name = next((name for name in names if (results / name / RESULTS).exists()), None)
        if name is None:
            raise DataError(
                f"there is no study of {method} in {results}",
                wanted=" or ".join(f"{name}/{RESULTS}" for name in names),
            )
        study = read_results(results / name)
        declared = next(row for row in study.comparisons if row.primary)
        kept = {
            key: value for key, value in declared.plain().items() if key in EvidenceRow.model_fields
        }
        oracle = {"oracle": True} if has_oracle(study.arms[declared.method].settings) else {}
        rows[method] = EvidenceRow.model_validate({"study": name, **kept, **oracle})
    return rows


if __name__ == "__main__":
    table = gather(Path(sys.argv[1]))
    write_json(TABLE, {name: row.plain() for name, row in table.items()})

"""CSV files of other people as rows of text, or a VouchError that says what to mend; figures do not belong here."""

from __future__ import annotations

import csv
from pathlib import Path

from edge.errors import VouchError


def rows(
    path: Path, columns: tuple[str, ...], *, optional: tuple[str, ...] = (), blank: tuple[str, ...] = ()
) -> list[dict[str, str]]:
    """Every row, each with all `columns`, and with all of `optional` or none. UTF-8, with Excel's mark or without.

    VouchError where the file cannot be read, has no row, lacks a column, or has a row with a field missing, or empty
    and not of `blank`.
    """
    todo = f"give a CSV file in UTF-8 with the columns {','.join(columns)}"
    todo += f", and {','.join(optional)} where wanted" if optional else ""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            given = tuple(reader.fieldnames or ())
            wanted = columns + (optional if set(optional) & set(given) else ())
            missing = [name for name in wanted if name not in given]
            if missing:
                raise VouchError(f"{path} lacks the column {missing[0]}", todo=todo)
            found = []
            for row in reader:
                empty = [name for name in wanted if row[name] is None or (row[name] == "" and name not in blank)]
                if empty:
                    raise VouchError(f"{path}, line {reader.line_num}: no {empty[0]}", todo=todo)
                found.append({name: row[name] for name in wanted})
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise VouchError(f"{path} cannot be read: {exc}", todo=todo) from exc
    if not found:
        raise VouchError(f"{path} has no row", todo=todo)
    return found

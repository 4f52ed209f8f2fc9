"""Lists: filter, sort, page, count. Pure; sees only rows that the caller may see."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelyard.plan import Key
from modelyard.statusapi import cursors, problems, selectors
from modelyard.statusapi.access import Seen
from modelyard.statusapi.kinds import Shown
from modelyard.statusapi.rows import Row, Rows

LIMIT: Final = 100
LIMIT_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a list. `sort` is a field of the row, with `-` before it for the other direction."""

    namespaces: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    text: str = ""
    labels: str = ""
    sort: str = ""
    limit: int = LIMIT
    cursor: str = ""
    fields: str = ""
    facets: str = ""

    @property
    def mark(self) -> str:
        """What a cursor belongs to: everything but the page."""
        filters = [sorted(self.namespaces), sorted(self.phases), sorted(self.severities), self.text, self.labels]
        return cursors.mark([*filters, self.sort])


def page(rows: Rows, shown: Shown, seen: Seen, query: Query) -> bytes:
    """One page as JSON. Raises Problem 400."""
    field, descending = _sort(shown, query.sort)
    wanted = _paths(shown, query.fields)
    facets = _facets(shown, query.facets)
    start = cursors.decode(query.cursor, query.mark) if query.cursor else None
    keep = _filter(seen, query)
    if keep is None and not field and not descending and not facets:
        items, total = _slice(rows, shown, start, query.limit)
    else:
        matching = [
            row for key in rows.keys(shown.kind) if (row := rows.get(shown.kind, key)) and (keep is None or keep(row))
        ]
        total = len(matching)
        items = _after(_ordered(matching, field, descending), field, descending, start, query.limit + 1)
    more = len(items) > query.limit
    items = items[: query.limit]
    answer = [b'{"items":[', b",".join(_encoded(row, wanted) for row in items), b'],"total":%d' % total]
    if more:
        last = items[-1]
        place = cursors.Place(_value(last, field), last.key.namespace, last.key.name)
        answer.append(b',"nextCursor":"%b"' % cursors.encode(place, query.mark).encode())
    if facets:
        counted = {name: dict(sorted(Counter(_counted(r, name) for r in matching).items())) for name in facets}
        answer.append(b',"facets":' + json.dumps(counted, separators=(",", ":")).encode())
    return b"".join([*answer, b"}"])


def _slice(rows: Rows, shown: Shown, start: cursors.Place | None, limit: int) -> tuple[list[Row], int]:
    """The common case without looking at every row: one more than the page, in the order of names."""
    keys = rows.keys(shown.kind)
    first = bisect_right(keys, Key(start.namespace, start.name)) if start else 0
    return [row for key in keys[first : first + limit + 1] if (row := rows.get(shown.kind, key))], len(keys)


def _sort(shown: Shown, sort: str) -> tuple[str, bool]:
    field = sort.removeprefix("-")
    if field and field not in shown.sorts:
        raise problems.invalid("sort", f"must be one of {', '.join(shown.sorts)}, with - before it to turn it round")
    return field, sort.startswith("-")


def _paths(shown: Shown, fields: str) -> tuple[tuple[str, ...], ...]:
    paths = tuple(tuple(path.strip().split(".")) for path in fields.split(",") if path.strip())
    known = {info.alias or name for name, info in shown.row.model_fields.items()}
    if len(paths) > 64 or any(path[0] not in known for path in paths):
        raise problems.invalid("fields", f"must name fields of a row, separated by commas: {', '.join(sorted(known))}")
    return paths


def _facets(shown: Shown, facets: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in facets.split(",") if name.strip()))
    if any(name not in shown.facets for name in names):
        raise problems.invalid("facets", f"must be out of {', '.join(shown.facets)}")
    return names


def _filter(seen: Seen, query: Query) -> Callable[[Row], bool] | None:
    """None: every row."""
    checks: list[Callable[[Row], bool]] = []
    if not seen.everywhere:
        checks.append(lambda row: row.key.namespace in seen.namespaces)
    if query.phases:
        phases = frozenset(query.phases)
        checks.append(lambda row: row.summary.phase in phases)
    if query.severities:
        severities = frozenset(query.severities)
        checks.append(lambda row: row.summary.severity in severities)
    if query.labels:
        selected = selectors.parse(query.labels)
        checks.append(lambda row: selected(row.summary.labels))
    if query.text:
        words = query.text.casefold().split()
        checks.append(lambda row: all(word in row.text for word in words))
    if len(checks) < 2:
        return checks[0] if checks else None
    return lambda row: all(check(row) for check in checks)


def _value(row: Row, field: str) -> Any:
    return row.data.get(field) if field else None


def _ordered(rows: Iterable[Row], field: str, descending: bool) -> list[Row]:
    """Rows without the field come last, whatever the direction."""
    if not field:
        return sorted(rows, key=lambda row: row.key, reverse=descending)
    have: list[Row] = []
    lack: list[Row] = []
    for row in rows:
        (lack if row.data.get(field) is None else have).append(row)
    have.sort(key=lambda row: (row.data[field], row.key), reverse=descending)
    lack.sort(key=lambda row: row.key, reverse=descending)
    return have + lack


def _after(rows: Sequence[Row], field: str, descending: bool, start: cursors.Place | None, most: int) -> list[Row]:
    if start is None:
        return list(rows[:most])
    place = (start.value, Key(start.namespace, start.name))
    try:
        first = next((at for at, row in enumerate(rows) if _behind(row, field, descending, place)), len(rows))
    except TypeError:
        raise problems.invalid("cursor", "is not a cursor of this list; leave it out to begin again") from None
    return list(rows[first : first + most])


def _behind(row: Row, field: str, descending: bool, place: tuple[Any, Key]) -> bool:
    value, (stop, key) = _value(row, field), place
    if value is None or stop is None:
        if (value is None) != (stop is None):
            return value is None
        return row.key < key if descending else row.key > key
    return bool((value, row.key) < (stop, key) if descending else (value, row.key) > (stop, key))


def _counted(row: Row, name: str) -> str:
    return str(row.data.get(name, ""))


def _encoded(row: Row, paths: Sequence[Sequence[str]]) -> bytes:
    if not paths:
        return row.json
    chosen: dict[str, Any] = {}
    for path in paths:
        _copy(row.data, chosen, path)
    return json.dumps(chosen, separators=(",", ":"), ensure_ascii=False).encode()


def _copy(source: Any, target: dict[str, Any], path: Sequence[str]) -> None:
    for step in path[:-1]:
        if not isinstance(source, dict) or step not in source:
            return
        source = source[step]
        inner = target.setdefault(step, {})
        if not isinstance(inner, dict) or inner is source:
            return
        target = inner
    if isinstance(source, dict) and path[-1] in source:
        target[path[-1]] = source[path[-1]]

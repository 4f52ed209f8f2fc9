"""Lists: filter, sort, page, count. Pure; sees only rows that the caller may see."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
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
    if _everything(seen, query) and not field and not descending and not facets:
        items, total = _slice(rows, shown, start, query.limit)
        matching: list[Row] = []
    else:
        have, lack = _matching(rows, shown, field, seen, query)
        matching, total = have + lack, len(have) + len(lack)
        items = _after(have, lack, field, descending, start)[: query.limit + 1]
    more = len(items) > query.limit
    items = items[: query.limit]
    answer = [b'{"items":[', b",".join(_encoded(row, wanted) for row in items), b'],"total":%d' % total]
    if more:
        last = items[-1]
        place = cursors.Place(_value(last, field), last.key.namespace, last.key.name)
        answer.append(b',"nextCursor":"%b"' % cursors.encode(place, query.mark).encode())
    if facets:
        counted = {name: _counted(matching, name) for name in facets}
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


def _everything(seen: Seen, query: Query) -> bool:
    return seen.everywhere and not (query.phases or query.severities or query.labels or query.text.strip())


def _matching(rows: Rows, shown: Shown, field: str, seen: Seen, query: Query) -> tuple[list[Row], list[Row]]:
    """Rows that have the field, by its value, and those that lack it, by name. Without a field all of them lack it."""
    have: Iterable[Key] = ()
    lack: Iterable[Key] = rows.keys(shown.kind)
    if field:
        order = rows.order(shown.kind, field)
        have, lack = (key for _, key in order.have), order.lack
    known = rows.by_key(shown.kind)
    return _kept([known[key] for key in have], seen, query), _kept([known[key] for key in lack], seen, query)


def _kept(rows: list[Row], seen: Seen, query: Query) -> list[Row]:
    """What the caller may see and asks for, one pass a filter: each is a loop without calls."""
    if not seen.everywhere:
        rows = [row for row in rows if row.key.namespace in seen.namespaces]
    if query.phases:
        rows = [row for row in rows if row.data["phase"] in query.phases]
    if query.severities:
        rows = [row for row in rows if row.data["severity"] in query.severities]
    if query.labels:
        selected = selectors.parse(query.labels)
        rows = [row for row in rows if selected(row.data["labels"])]
    for word in query.text.casefold().split():
        rows = [row for row in rows if word in row.text]
    return rows


def _value(row: Row, field: str) -> Any:
    return row.data.get(field) if field else None


def _after(have: list[Row], lack: list[Row], field: str, descending: bool, start: cursors.Place | None) -> list[Row]:
    """What comes behind the place. Rows without the field come last, whatever the direction."""
    if start is not None:
        key = Key(start.namespace, start.name)
        try:
            if start.value is None:
                have, lack = [], _behind(lack, key, descending, lambda row: row.key)
            else:
                have = _behind(have, (start.value, key), descending, lambda row: (row.data[field], row.key))
        except TypeError:
            raise problems.invalid("cursor", "is not a cursor of this list; leave it out to begin again") from None
    return [*reversed(have), *reversed(lack)] if descending else have + lack


def _behind(rows: list[Row], place: Any, descending: bool, order: Callable[[Row], Any]) -> list[Row]:
    """What of rows in order lies behind the place: before it, if they are read backwards."""
    if descending:
        return rows[: bisect_left(rows, place, key=order)]
    return rows[bisect_right(rows, place, key=order) :]


def _counted(rows: Sequence[Row], name: str) -> dict[str, int]:
    counts = Counter([row.data.get(name, "") for row in rows])
    return dict(sorted((str(value), count) for value, count in counts.items()))


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

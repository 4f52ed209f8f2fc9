"""A row for each object that is shown, made once per change: what lists, totals and the stream are served from."""

from __future__ import annotations

import json
import logging
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from modelyard.cluster.store import Change, key_of
from modelyard.plan import Key, Kind, Obj
from modelyard.statusapi.changelog import ChangeLog
from modelyard.statusapi.kinds import BY_KIND, Shown
from modelyard.statusapi.schemas.base import Summary

logger = logging.getLogger(__name__)

SEARCHED: Final = ("name", "namespace", "description", "model", "source", "recipe", "type", "reason")
"""Fields of a row that `q` looks in, besides its tags."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object: what is shown of it, as a value and as JSON."""

    key: Key
    summary: Summary
    data: dict[str, Any]
    json: bytes
    text: str
    """What a search looks in, folded."""


class Order:
    """The rows of one kind by the value of a field and then by name; those without it by name alone."""

    def __init__(self, field: str, rows: Iterable[Row]) -> None:
        self._field = field
        self.have: list[tuple[Any, Key]] = []
        self.lack: list[Key] = []
        for row in rows:
            value = row.data.get(field)
            if value is None:
                self.lack.append(row.key)
            else:
                self.have.append((value, row.key))
        self.have.sort()
        self.lack.sort()

    def replace(self, old: Row | None, new: Row | None) -> None:
        """A row came, changed or went."""
        if old is not None:
            before = old.data.get(self._field)
            if new is not None and new.data.get(self._field) == before:
                return
            if before is None:
                del self.lack[bisect_left(self.lack, old.key)]
            else:
                del self.have[bisect_left(self.have, (before, old.key))]
        if new is not None:
            value = new.data.get(self._field)
            if value is None:
                insort(self.lack, new.key)
            else:
                insort(self.have, (value, new.key))


class Rows:
    """Rows by kind, and in order of names and of fields. `observe` takes in what the store has taken in."""

    def __init__(self, log: ChangeLog) -> None:
        self._rows: dict[Kind, dict[Key, Row]] = {kind: {} for kind in BY_KIND}
        self._keys: dict[Kind, list[Key]] = {kind: [] for kind in BY_KIND}
        self._orders: dict[Kind, dict[str, Order]] = {kind: {} for kind in BY_KIND}
        self.log = log
        self.version = 0
        """Rises with every change."""

    def observe(self, change: Change) -> None:
        """An object came, changed or went."""
        shown = BY_KIND.get(change.kind)
        if shown is None:
            return
        obj = change.new or change.old
        assert obj is not None
        key = key_of(obj)
        if change.new is None:
            self._forget(shown, key, obj)
            return
        try:
            summary = shown.summary(obj)
        except (ValidationError, TypeError, ValueError, AttributeError) as error:
            # One odd object must not hide the others; the CRDs' schemas make this a matter of foreign kinds.
            logger.warning("%s %s cannot be shown (%s).", shown.kind.kind, key, type(error).__name__)
            self._forget(shown, key, obj)
            return
        self._keep(shown, key, summary)

    def get(self, kind: Kind, key: Key) -> Row | None:
        """The row of one object."""
        return self._rows[kind].get(key)

    def by_key(self, kind: Kind) -> Mapping[Key, Row]:
        """All rows of a kind. Shared: not to be changed."""
        return self._rows[kind]

    def keys(self, kind: Kind) -> list[Key]:
        """Names of all rows of a kind, in order. Shared: not to be changed."""
        return self._keys[kind]

    def order(self, kind: Kind, field: str) -> Order:
        """All rows of a kind by a field; made when it is first asked for, and kept in order from then on."""
        orders = self._orders[kind]
        if field not in orders:
            orders[field] = Order(field, self._rows[kind].values())
        return orders[field]

    def of(self, kind: Kind) -> Iterator[Row]:
        """All rows of a kind, in no order."""
        return iter(self._rows[kind].values())

    def namespaces(self, kinds: Iterable[Kind]) -> set[str]:
        """Namespaces that hold an object of one of the kinds."""
        return {key.namespace for kind in kinds for key in self._rows[kind]}

    def _keep(self, shown: Shown, key: Key, summary: Summary) -> None:
        data = summary.model_dump(mode="json", by_alias=True, exclude_none=True)
        encoded = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
        known = self._rows[shown.kind].get(key)
        if known is not None and known.json == encoded:
            return
        row = Row(key, summary, data, encoded, _searched(data))
        if known is None:
            insort(self._keys[shown.kind], key)
        self._rows[shown.kind][key] = row
        for order in self._orders[shown.kind].values():
            order.replace(known, row)
        self.version += 1
        self.log.put(shown.kind, key, encoded)

    def _forget(self, shown: Shown, key: Key, obj: Obj) -> None:
        known = self._rows[shown.kind].pop(key, None)
        if known is None:
            return
        for order in self._orders[shown.kind].values():
            order.replace(known, None)
        keys = self._keys[shown.kind]
        del keys[bisect_left(keys, key)]
        self.version += 1
        who = {"kind": shown.kind.kind, "namespace": key.namespace, "name": key.name, "uid": obj["metadata"]["uid"]}
        self.log.gone(shown.kind, key, json.dumps(who, separators=(",", ":")).encode())


def _searched(data: Mapping[str, Any]) -> str:
    texts = [str(data[name]) for name in SEARCHED if name in data]
    return " ".join([*texts, *data.get("tags", ())]).casefold()

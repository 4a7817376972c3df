"""The type of a column of a Parquet export, found from all its values, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .pair import FIELDS, to_json


@dataclass
class ParquetColumn:
    """A column whose type follows from the values that were added.

    Attributes:
        name: Name of the column.
        as_json: Whether its values have to be written as JSON: tool calls, whose arguments differ, nested values, integers of more
            than 64 bits, and values of several types.
    """

    name: str
    as_json: bool = False
    _kinds: set[type] = field(default_factory=set)
    _types: dict[Any, None] = field(default_factory=dict)

    def add(self, values: list[Any]) -> None:
        """Take some values into account. Raises ArrowException where values of a text column have no common type."""
        import pyarrow as pa

        self._kinds |= {type(value) for value in values if value is not None}
        self.as_json = self.as_json or self._needs_json(values)
        if not self.as_json:
            self._types[pa.array(values).type] = None

    def _needs_json(self, values: list[Any]) -> bool:
        if self.name in FIELDS:
            return any(isinstance(value, list) and any(message.get("tool_calls") for message in value) for value in values)
        nested = any(isinstance(value, dict) or (isinstance(value, list) and not _is_texts(value)) for value in values)
        too_large = any(type(value) is int and not -(2**63) <= value < 2**63 for value in values)
        return len(self._kinds) > 1 or nested or too_large

    def field(self) -> Any:
        """Return the Arrow field. Raises ArrowException where the values have no common type."""
        import pyarrow as pa

        if self.as_json:
            return pa.field(self.name, pa.string())
        schemas = [pa.schema([(self.name, each)]) for each in self._types]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0)

    def array(self, values: list[Any]) -> Any:
        """Return values as an Arrow array of the column's type. Raises ArrowException where one does not fit."""
        import pyarrow as pa

        if self.as_json:
            values = [None if value is None else to_json(value) for value in values]
        return pa.array(values, self.field().type)


def _is_texts(value: list[Any]) -> bool:
    return all(isinstance(item, str) for item in value)

"""Events as Arrow tables, for Parquet and for data frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetsim.generate.config import Config
from fleetsim.generate.encode import driver_digits, uuid_text
from fleetsim.generate.events import EventColumns
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, choice_law

#: Rows of a row group, about as many as DuckDB writes; what is in the making stays small.
ROWS = 1 << 17

_AT_ONCE = 1 << 14
_TIME = pa.timestamp("us", tz="UTC")
_CODED = pa.dictionary(pa.int32(), pa.string())
_DICTIONARIES = [
    field.name for field in EVENT_FIELDS if field.kind not in (FieldKind.UUID, FieldKind.TIME)
]


def _schema(coded: Any) -> Any:
    kinds = {FieldKind.UUID: pa.string(), FieldKind.TIME: _TIME}
    return pa.schema([(field.name, kinds.get(field.kind, coded)) for field in EVENT_FIELDS])


def table_of(config: Config, fleet: Fleet, start_us: int, events: EventColumns) -> Any:
    """Return events of an interval that starts at `start_us` as an Arrow table.

    Ids and types are strings (dictionary-coded but for the event's own id), the time is
    timestamp[us, UTC]. Few enough events that their ids fill less than 2 GB.
    """
    if config.defects:  # some records stand elsewhere: a driver's are not together
        drivers, driver_code = np.unique(events.driver, return_inverse=True)
    else:
        new = np.concatenate([np.ones(min(1, len(events)), np.bool_), np.diff(events.driver) != 0])
        drivers, driver_code = events.driver[new], _codes(new)
    company, number = np.divmod(drivers, config.drivers_per_company)
    first = np.concatenate([np.ones(min(1, len(company)), np.bool_), np.diff(company) != 0])
    companies, company_code = _fixed(fleet.ids_of(company[first])), _codes(first)[driver_code]
    columns = []
    for field in EVENT_FIELDS:
        if field.kind is FieldKind.UUID:
            columns.append(_fixed(_uuids(events.drawn[field.name])))
        elif field.kind is FieldKind.COMPANY:
            columns.append(_coded(company_code, companies))
        elif field.kind is FieldKind.DRIVER:
            numbers = pc.utf8_lpad(pa.array(number).cast("string"), driver_digits(config), "0")
            ids = _fixed(fleet.ids_of(company))
            columns.append(_coded(driver_code, _joined("DRV-", ids, "-", numbers)))
        elif field.kind is FieldKind.TRUCK:
            trucks = _joined("TRK-", pa.array(drivers + 1).cast("string"))
            columns.append(_coded(driver_code, trucks))
        elif field.kind is FieldKind.TIME:
            columns.append(pa.array(start_us + events.drawn[field.name]).cast(_TIME))
        else:
            names = pa.array(choice_law(config, field.key or field.name).names, pa.string())
            columns.append(_coded(events.drawn[field.name], names))
    for place, field in enumerate(EVENT_FIELDS):
        there = [(row, text) for row, name, text in events.replaced if name == field.name]
        if there:
            columns[place] = _replaced(columns[place], there)
    return pa.table(columns, schema=_schema(_CODED))


def _replaced(column: Any, there: list[tuple[int, str | None]]) -> Any:
    """Return a column with other texts, or nulls, in some rows."""
    mask = np.zeros(len(column), np.bool_)
    mask[[row for row, _ in there]] = True
    if not pa.types.is_dictionary(column.type):  # an id or a time
        texts = pa.array([text for _, text in sorted(there)], pa.string()).cast(column.type)
        return pc.replace_with_mask(column, pa.array(mask), texts)
    codes = column.indices.to_numpy(zero_copy_only=False).copy()
    new = list(dict.fromkeys(text for _, text in there if text is not None))
    place = {text: len(column.dictionary) + number for number, text in enumerate(new)}
    null = np.zeros(len(column), np.bool_)
    for row, text in there:
        null[row] = text is None
        codes[row] = 0 if text is None else place[text]
    values = pa.concat_arrays([column.dictionary, pa.array(new, pa.string())])
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=null), values)


def _uuids(pairs: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the text of UUIDs, some at a time, since the way to it takes much room."""
    text = np.empty((len(pairs), 36), np.uint8)
    for start in range(0, len(pairs), _AT_ONCE):
        text[start : start + _AT_ONCE] = uuid_text(pairs[start : start + _AT_ONCE])
    return text


def _codes(new: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.cumsum(new) - 1


def _coded(codes: npt.NDArray[Any], values: Any) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), values)


def _fixed(text: npt.NDArray[np.uint8]) -> Any:
    """Return rows of characters as strings."""
    n, width = text.shape
    ends = np.arange(0, (n + 1) * width, width, dtype=np.int32)[: n + 1]
    data = np.ascontiguousarray(text)
    return pa.StringArray.from_buffers(n, pa.py_buffer(ends), pa.py_buffer(data))


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")


class _Writer(pq.ParquetWriter):  # type: ignore[misc]
    """A writer that gives back the memory of each row group."""

    def write_table(self, table: Any, row_group_size: int | None = None) -> None:
        """Write a row group, and give back what it took."""
        super().write_table(table, row_group_size)
        pa.default_memory_pool().release_unused()


def open_writer(file: Any) -> Any:
    """Return a writer of Parquet into a file; it takes tables of `table_of`, a row group each."""
    return _Writer(
        file,
        _schema(_CODED),
        compression="zstd",
        use_dictionary=_DICTIONARIES,
        store_schema=False,  # readers see plain strings, whatever they were made from
    )

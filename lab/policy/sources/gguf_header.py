"""Count the parameters of a GGUF file from its header, without reading weights.

Layout: magic, version, numbers of tensors and of metadata entries, the metadata, then a name, a shape, a type and an offset for
each tensor (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The size of the file does not give the number, because
quantized formats differ in bits per weight.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a metadata value by its type, for types of fixed size."""
STRING, ARRAY = 8, 9
MOST = 1 << 32
"""Numbers in a header above this (entries, dimensions, string lengths) mean a damaged file."""


def count_gguf_parameters(file: Path) -> int:
    """Count the parameters of a GGUF file. Raises ValueError for a damaged file, OSError for one that cannot be read."""
    with file.open("rb") as content:
        if content.read(4) != b"GGUF" or _number(content, "<I") < 2:
            raise ValueError(f"{file} is no GGUF file of version 2 or later.")
        tensors, entries = _number(content, "<Q"), _number(content, "<Q")
        for _ in range(entries):
            _skip_string(content)
            _skip_value(content, _number(content, "<I"))
        count = 0
        for _ in range(tensors):
            _skip_string(content)
            shape = [_number(content, "<Q") for _ in range(_number(content, "<I"))]
            count += math.prod(shape)
            content.seek(12, 1)  # type and offset
        return count


def _number(content: BinaryIO, kind: str) -> int:
    data = content.read(struct.calcsize(kind))
    try:
        (value,) = struct.unpack(kind, data)
    except struct.error as error:
        raise ValueError("The GGUF file ends within its header.") from error
    if value > MOST:
        raise ValueError(f"The header of the GGUF file holds the number {value:,}, which cannot be.")
    return int(value)


def _skip_string(content: BinaryIO) -> None:
    content.seek(_number(content, "<Q"), 1)


def _skip_value(content: BinaryIO, kind: int) -> None:
    if kind == STRING:
        _skip_string(content)
    elif kind == ARRAY:
        inner, count = _number(content, "<I"), _number(content, "<Q")
        if inner in SIZES:
            content.seek(count * SIZES[inner], 1)
        else:
            for _ in range(count):
                _skip_value(content, inner)
    elif kind in SIZES:
        content.seek(SIZES[kind], 1)
    else:
        raise ValueError(f"The header of the GGUF file holds a value of the unknown type {kind}.")

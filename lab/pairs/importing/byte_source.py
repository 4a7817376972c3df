"""Files of pairs as streams of bytes: unpacked where they are packed, and cut into lines of bounded length."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lab.pairs.pair import PairsError

from .limits import Limits, Unpacked

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
DATA = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Name endings of files of pairs."""
MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst", b"PK\x03\x04": ".zip"}
CHUNK = 1 << 20


def packing(path: Path) -> str:
    """Return how a file is packed (".gz", ".bz2", ".xz", ".zst"), by its first bytes; empty for a plain file."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")


def format_suffix(path: Path) -> str:
    """Return the file name ending that names the format: ".jsonl" of "pairs.jsonl.gz", or of the file inside "pairs.zip".

    Raises PairsError for a .zip that does not hold one file of pairs.
    """
    inner = path.with_suffix("") if path.suffix.lower() in PACKED else path
    if path.suffix.lower() == ".zip" and path.is_file():
        inner = Path(zipped_name(path))
    return inner.suffix.lower()


def zipped_name(path: Path) -> str:
    """Return the name of the file of pairs in a .zip. Raises PairsError where there is none, or several."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [each.filename for each in archive.infolist() if not each.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise PairsError(f"{path} is not a readable .zip ({error}); pack it again.") from None
    files = [name for name in names if Path(name).suffix.lower() in DATA and not Path(name).name.startswith(".")]
    files = [name for name in files if not name.startswith("__MACOSX/")]
    if len(files) == 1:
        return files[0]
    if not files:
        raise PairsError(
            f"{path} holds no file of pairs ({', '.join(names[:9]) or 'it is empty'}); put one of {', '.join(DATA)} in it."
        )
    raise PairsError(f"{path} holds several files ({', '.join(files[:9])}); unpack it and give one of them.")


def base_name(path: Path) -> str:
    """Return the file name without its format and packing: "pairs" of "pairs.jsonl.gz"."""
    inner = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return inner.stem


class ByteSource:
    """A file read from its beginning, with `read` and `lines`; packed files are unpacked on the way."""

    def __init__(self, file: IO[bytes], path: Path, limits: Limits, unpacked: Unpacked | None) -> None:
        self._file, self._path, self._limits, self._unpacked = file, path, limits, unpacked

    def read(self, size: int = CHUNK) -> bytes:
        """Return up to `size` bytes; empty at the end."""
        return self._counted(lambda: self._file.read(size))

    def lines(self) -> Iterator[tuple[int, bytes | PairsError]]:
        """Yield (number from 1, line); a line that is too long is a PairsError, and reading goes on after it.

        Lines end at a line feed only: `str.splitlines` would also cut at U+2028 and others inside a text.
        """
        longest, number = self._limits.row_bytes, 0
        while line := self._counted(lambda: self._file.readline(longest + 1)):
            number += 1
            if len(line) <= longest or line.endswith(b"\n"):
                yield number, line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                continue
            while line and not line.endswith(b"\n"):
                line = self._counted(lambda: self._file.readline(CHUNK))
            yield number, self._limits.row_too_long()

    def _counted(self, read: Callable[[], bytes]) -> bytes:
        try:
            data = read()
        except (
            OSError,
            EOFError,
            lzma.LZMAError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:  # damaged or cut packing; a disk that fails
            reason = str(error).strip().rstrip(".") or type(error).__name__
            raise PairsError(f"{self._path} cannot be read to its end ({reason}); copy or pack it again.") from None
        if self._unpacked is not None:
            self._unpacked.add(len(data))
        return data


@contextmanager
def open_bytes(path: Path, limits: Limits) -> Iterator[ByteSource]:
    """Open a file for reading, unpacked. Raises PairsError where it cannot be opened."""
    kind = packing(path)
    openers: dict[str, Callable[[Path], Any]] = {
        "": lambda path: path.open("rb"),
        ".gz": gzip.GzipFile,
        ".bz2": lambda path: io.BufferedReader(_Streams(path, bz2.BZ2Decompressor), CHUNK),
        ".xz": lambda path: io.BufferedReader(_Streams(path, lzma.LZMADecompressor), CHUNK),
        ".zst": _zstandard,
        ".zip": _zipped,
    }
    try:
        file = openers[kind](path)
    except OSError as error:
        raise PairsError(f"{path} cannot be opened ({error.strerror or error}); check the file.") from None
    except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:  # a password, an unknown method, damage
        raise PairsError(f"{path} cannot be unpacked ({error}); unpack it and give the file inside.") from None
    with file:
        yield ByteSource(file, path, limits, Unpacked(path, path.stat().st_size, limits) if kind else None)


def _zipped(path: Path) -> IO[bytes]:
    name = zipped_name(path)
    with zipfile.ZipFile(path) as archive:
        return archive.open(name)  # it keeps the file open until it is closed itself


class _Streams(io.RawIOBase):
    """A file of one or several packed streams. `bz2.BZ2File` and `lzma.LZMAFile` pass over a damaged later stream in silence."""

    def __init__(self, path: Path, decompressor: Callable[[], Any]) -> None:
        self._file, self._decompressor, self._stream = path.open("rb"), decompressor, decompressor()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is data; 0 at the end. Raises OSError, EOFError or LZMAError for a damaged file."""
        data = b""
        while not data:
            packed = b""
            if self._stream.eof:
                packed = (self._stream.unused_data or self._file.read(CHUNK)).lstrip(b"\0")  # streams may be padded with zeros
                while not packed:
                    if not (packed := self._file.read(CHUNK)):
                        return 0
                    packed = packed.lstrip(b"\0")
                self._stream = self._decompressor()
            elif self._stream.needs_input and not (packed := self._file.read(CHUNK)):
                raise EOFError("the packed data ends early")
            data = self._stream.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _zstandard(path: Path) -> Any:
    import pyarrow as pa

    stream = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    return io.BufferedReader(_Raw(stream), CHUNK)


class _Raw:
    """An Arrow stream with the methods that BufferedReader needs; Arrow's own `readline` does not exist."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Do nothing: nothing is written."""

    def close(self) -> None:
        """Close the Arrow stream."""
        self._stream.close()
        self.closed = True

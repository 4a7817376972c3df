"""Export: the pairs of the list, the whole set or any version of it, in the formats that the import reads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from app.text.plain import plain
from lab.pairs import Pair, PairStore, write_findings, write_pairs
from lab.pairs.open_store import slug
from lab.pairs.query import PairQuery

FORMATS = {
    "JSON Lines": ("jsonl", "application/jsonl"),
    "CSV": ("csv", "text/csv"),
    "Parquet": ("parquet", "application/vnd.apache.parquet"),
}
OTHER = "Another version"


def export_popover(store: PairStore, query: PairQuery, total: int) -> None:
    """Draw the button that opens the choice of pairs and format."""
    with st.popover("Export", icon=":material/download:"):
        versions = {f"Version {each.version}: {each.name}": each.version for each in store.snapshots()} | {"As imported": 0}
        listed, whole = f"The list: {total:,} pairs", f"The whole set: {len(store):,} pairs"
        what = st.radio("What", [listed, whole, *versions, OTHER], format_func=plain, key="export.what")
        if what == OTHER:
            versions[OTHER] = int(
                st.number_input("Version", 0, store.version, key="export.version", help="As the view Changes numbers them.")
            )
        kind = (
            st.segmented_control("Format", list(FORMATS), default="JSON Lines", required=True, key="export.format") or "JSON Lines"
        )
        ending, mime = FORMATS[kind]

        version = None if what in (listed, whole) else versions[what]

        def chosen() -> Iterable[Pair]:
            return store.page(query, 0, total)[0] if what == listed else store.all(version)

        st.download_button(
            "Download",
            data=lambda: exported(chosen(), ending),
            file_name=file_name(store.name, ending, total if what == listed else len(store), version),
            mime=mime,
            type="primary",
            on_click="ignore",
            help="With ids, tags, weights, degrees and notes; an import of the file gives the same pairs.",
        )


def file_name(name: str, ending: str, count: int, version: int | None = None) -> str:
    """Return the name of a download, which tells it from the file that was imported.

    Args:
        name: Name of the set.
        ending: Ending of the file, without a dot.
        count: Number of pairs in the file; not used for a version, whose pairs are counted when it is read.
        version: Number of the exported version; None for the present pairs.
    """
    noun = "pair" if count == 1 else "pairs"
    part = f"{count}-{noun}" if version is None else f"version-{version}" if version else "as-imported"
    return f"{slug(name)}-{part}.{ending}"


def exported(pairs: Iterable[Pair], ending: str) -> bytes:
    """Return the bytes of a file of these pairs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"pairs.{ending}"
        write_pairs(pairs, path)
        return path.read_bytes()


def findings_button(store: PairStore) -> None:
    """Draw the button that saves what checks and runs found in the pairs as they are now."""

    def data() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            findings = [finding for each in store.findings_of().values() for finding in each]
            return write_findings(Path(folder) / "findings.csv", findings).read_bytes()

    st.download_button(
        "Export the findings",
        data=data,
        file_name=f"{slug(store.name)}-findings.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
        help="Pair, check, sentence, remedy and confidence of each finding, as CSV that is safe to open in a spreadsheet.",
    )

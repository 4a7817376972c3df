"""Export: the pairs of the list, the whole set or any version of it, in the formats that the import reads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from app.text.plain import plain
from lab.pairs import Pair, PairStore, write_pairs
from lab.pairs.open_store import slug
from lab.pairs.query import PairQuery

FORMATS = {
    "JSON Lines": ("jsonl", "application/jsonl"),
    "CSV": ("csv", "text/csv"),
    "Parquet": ("parquet", "application/vnd.apache.parquet"),
}


def export_popover(store: PairStore, query: PairQuery, total: int) -> None:
    """Draw the button that opens the choice of pairs and format."""
    with st.popover("Export", icon=":material/download:"):
        versions = {f"Version {each.version}: {each.name}": each.version for each in store.snapshots()}
        listed, whole = f"The list: {total:,} pairs", f"The whole set: {len(store):,} pairs"
        what = st.radio("What", [listed, whole, *versions, "As imported"], format_func=plain, key="export.what")
        kind = (
            st.segmented_control("Format", list(FORMATS), default="JSON Lines", required=True, key="export.format") or "JSON Lines"
        )
        ending, mime = FORMATS[kind]

        def chosen() -> Iterable[Pair]:
            if what == listed:
                return store.page(query, 0, total)[0]
            return store.all(None if what == whole else 0 if what == "As imported" else versions[what])

        st.download_button(
            "Download",
            data=lambda: exported(chosen(), ending),
            file_name=f"{slug(store.name)}.{ending}",
            mime=mime,
            type="primary",
            on_click="ignore",
            help="With ids, tags, weights, degrees and notes; an import of the file gives the same pairs.",
        )


def exported(pairs: Iterable[Pair], ending: str) -> bytes:
    """Return the bytes of a file of these pairs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"pairs.{ending}"
        write_pairs(pairs, path)
        return path.read_bytes()

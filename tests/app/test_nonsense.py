"""Nonsense in fields and addresses: one sentence, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.state.recipe import as_command, as_python, judge
from app.text.plain import LONGEST, plain
from app.views.new_run.uploads import store_upload
from app.widgets import forms
from app.widgets.import_form.uploads import TYPES
from lab import home
from lab.pairs import PairsError, open_pairs
from lab.run.config import TrainConfig
from lab.run.handle import Run
from tests.bench.nonsense import NONSENSE

pytestmark = pytest.mark.extended

MAIN = Path(__file__).parents[2] / "app" / "main.py"
TEXTS = (*NONSENSE, "half \ud800 of it", "..", "../", "/" + "a/" * 3000, "a" * 300, "~no such user/x", "/dev/zero.jsonl", "nan")
NUMBERS = (0, -1, 1e308, -1e308, float("nan"), float("inf"), 10**15, 2**53, 10**300, 1e-320)


@pytest.mark.parametrize("name", [name for name in TrainConfig.model_fields if name != "objective"])
def test_a_setting_is_taken_or_refused_in_one_sentence(name: str) -> None:
    kind, _ = forms._kind(TrainConfig.model_fields[name])
    for value in TEXTS if kind is str else NUMBERS if kind in (int, float) else ():
        verdict = judge({"name": "dpo"}, {"pairs": "world", "model": "world", name: value})
        if verdict.config is None:
            assert "\n" not in verdict.refusal
            assert verdict.refusal.endswith(".")
        else:
            assert as_command(verdict.config)
            assert as_python(verdict.config)


@pytest.mark.parametrize("path", [text for text in TEXTS if text not in ("world", "owner/name") and "\ud800" not in text])
def test_pairs_from_a_path_that_is_none(path: str, tmp_path: Path) -> None:
    with pytest.raises(PairsError) as refused:
        open_pairs(path, home=tmp_path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_a_long_text_is_cut_and_half_a_character_is_replaced() -> None:
    assert plain("half \ud800 of it") == "half ⟨U+D800⟩ of it"
    assert len(plain("a" * 20_000)) < LONGEST
    assert plain("a" * 20_000 + " the end.").endswith("the end.")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    "data", [b"", b"\x00", bytes(range(256)), b"PAR1" + b"\xff" * 64 + b"PAR1", b"[" * 100_000, b'"', b"[1, 2]", b"{}"]
)
def test_a_file_that_is_none_is_refused_in_one_sentence(kind: str, data: bytes) -> None:
    with pytest.raises(PairsError) as refused:
        store_upload(f"../<b>{kind}</b>.{kind.upper()}", data)
    assert "\n" not in str(refused.value)
    assert not [path for path in home.home().rglob("*") if path.is_file()]


def test_a_file_of_another_kind_is_refused() -> None:
    for name in ("picture.png", "pairs", ".jsonl.exe", "jsonl"):
        with pytest.raises(PairsError, match=r"upload a \.jsonl, \.json, \.csv, \.tsv or \.parquet file"):
            store_upload(name, b"{}")


@pytest.mark.parametrize("view", ["live", "inspect", "runs", "compare", "pairs", "learn"])
def test_an_address_of_nonsense_opens(view: str, store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from app.state.jobs import Job

    def no_world(progress: Any) -> Any:
        raise ValueError("There is no world in this test.")

    monkeypatch.setattr("app.state.pair_sets.world_job", lambda name: Job(no_world))
    for name in ("one", "two"):
        store_run(name, steps=12)
    for value in (
        "",
        "9" * 5000,
        "-1",
        "nan,nan",
        "1e400,1",
        "<b>",
        "\x00",
        "../..",
        '{"name": "dpo", "beta": 1e999}',
        "one,one",
        "a" * 9000,
    ):
        app = AppTest.from_file(MAIN, default_timeout=60)
        app.switch_page(f"views/{view}/{view}.py")
        for name in (
            "run",
            "runs",
            "pair",
            "pairs",
            "step",
            "sheet",
            "A",
            "log_x1",
            "tokens",
            "starts",
            "seed",
            "sort",
            "since",
            "state",
            "curve",
        ):
            app.query_params[name] = value
        app.run()
        assert not app.exception, (value[:40], app.exception[0].value)

"""The report from made-up runs."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from lab.claims import CHAPTERS, CLAIMS, FULL, correct_together, judge, measure, measure_cost
from lab.claims.report import Facts, make_report, to_html
from lab.claims.verdicts import Verdict
from lab.experiments.records import MARGIN_STD
from lab.experiments.statistics import Curve

SOME = CLAIMS[::6]
"""Few claims of every kind, since a picture takes a tenth of a second."""
METRICS = {term.metric for claim in CLAIMS for part in claim.parts for term in part.terms}
LEVELS = {"eval/kl": [0.0, 1.0, 3.0], "eval/rewards/accuracies": [0.0, 0.6, 0.7]}


def made_curves(seeds):
    rng = np.random.default_rng(0)
    curves = {}
    for variant in {variant for claim in CLAIMS for variant in claim.variants}:
        curves[variant] = {}
        for seed in range(seeds):
            scalars = {name: 2 + np.array([0.0, 0.5, 1.0]) + rng.normal(0, 0.3, 3) for name in sorted(METRICS)}
            curves[variant][seed] = Curve(np.array([0.0, 50, 100]), scalars | {k: np.array(v) for k, v in LEVELS.items()})
    return curves


def made_report(seeds):
    curves = made_curves(seeds)
    rounds = [{"dpo": 1.0, "sgdpo": 1.01 + i / 1000, "simpo": 0.9, "alpha_dpo": 1.1, "spo": 2.2 - i / 100} for i in range(seeds)]
    judged = correct_together(
        [judge(measure_cost(c, rounds, FULL.rounds) if c.cost else measure(c, curves, FULL.seeds)) for c in SOME]
    )
    own = {each.measured.claim.key: each for each in judged}
    size = {"weights": 2_080_000, "pairs": 2700, "held_out": 300, "tokens_prompt": 11, "tokens_chosen": 50, "tokens_rejected": 52}
    facts = Facts(FULL, {"world": size}, 48 * seeds, 384, {"world": 8}, ["dpo 2e-4, seed 3: no."])
    return make_report({title: [own[c.key] for c in claims if c in SOME] for title, claims in CHAPTERS.items()}, curves, facts), own


@pytest.fixture(scope="module")
def complete():
    return made_report(8)


def test_every_claim_has_a_row_and_a_section_with_the_same_verdict(complete):
    report, judged = complete
    for claim in SOME:
        (row,) = re.findall(rf"^\| \[.*\]\(#{claim.key}\) \| (.*?) \|", report.markdown, re.M)
        section = report.markdown.split(f'<a id="{claim.key}"></a>')[1].split("<a id=")[0]
        assert row == judged[claim.key].verdict
        assert f"**Result.** {row.capitalize()}" in section
        assert claim.rule in section
        assert claim.sentence in section
        assert claim.source in section
    assert "- **OURS**: a claim, a bound or a setting that no paper gives" in report.markdown
    assert "0.52 million parameters" in report.markdown
    assert "300 more are held out, of which evaluations use 200." in report.markdown
    assert "384 of 384 runs are finished" in report.markdown
    assert "Failed runs, without which their claims stay preliminary: dpo 2e-4, seed 3: no." in report.markdown


def test_pictures_are_svg_and_the_same_for_the_same_numbers(complete):
    report, _ = complete
    assert len(report.pictures) == len(SOME)
    for path, picture in report.pictures.items():
        assert f"]({path})" in report.markdown
        assert ET.fromstring(picture).tag.endswith("svg")
    again, _ = made_report(8)
    assert again == report


def test_a_preliminary_report_has_no_verdict(complete):
    report, _ = made_report(3)
    rows = re.findall(r"^\| \[.*\]\(#[\w-]+\) \| (.*?) \|", report.markdown, re.M)
    assert rows == [f"preliminary: 3 of 8 {'rounds' if claim.cost else 'seeds'}" for claim in SOME]
    assert "**Result.** Confirmed" not in report.markdown
    assert "0 confirmed, 0 refuted, 0 not shown" in report.markdown
    empty, _ = made_report(0)
    assert not empty.pictures
    assert "there is no number yet" in empty.markdown


def test_the_page_holds_its_pictures_and_needs_no_network(complete, tmp_path):
    report, _ = complete
    page = to_html(report)
    assert page.count("data:image/svg+xml;base64,") == len(SOME)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "<table>" in page
    path = report.write(tmp_path)
    assert path.read_text() == report.markdown
    assert len(list((tmp_path / "claims").glob("*.svg"))) == len(SOME)


def test_the_spread_of_margins_has_a_title():
    from lab.claims.pictures import TITLES

    assert TITLES[MARGIN_STD]


def test_lessons_state_the_verdicts_of_the_report():
    folder = Path(__file__).parents[2] / "notebooks"
    table = dict(re.findall(r"^\| \[[^]]+\]\(#([\w-]+)\) \| ([^|:]+)", (folder / "claims.md").read_text(), re.M))
    cited = {}
    for path in folder.glob("*.ipynb"):
        text = "".join(line for cell in json.loads(path.read_text())["cells"] for line in cell["source"])
        cited |= {(path.stem, key): verdict for verdict, key in re.findall(r"\[([a-z ]+)\]\(claims\.md#([\w-]+)\)", text)}
    cited = {place: verdict for place, verdict in cited.items() if verdict in get_args(Verdict)}
    assert {stem[:2] for stem, _ in cited} == {"03", "04", "05", "06"}
    assert {(stem, key): table[key].strip() for stem, key in cited} == cited

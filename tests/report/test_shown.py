"""Results as Python shows them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

import capsbench
from capsbench.errors import UsageError
from capsbench.report.comparison import compare_networks
from capsbench.report.comparisontables import render_comparisons
from capsbench.report.pages import render
from capsbench.report.shown import Results
from capsbench.results.result import load_results

COMMITTED = Path(__file__).parents[2] / "results" / "crowding" / "epyc-cpu"


def test_results_are_a_list_that_prints_its_tables() -> None:
    found = capsbench.load_results(COMMITTED)
    assert found == load_results(COMMITTED) and isinstance(found, Results)
    assert str(found) == render(load_results(COMMITTED))
    assert str(Results()) == "no results" and Results()._repr_html_() == ""


def test_a_notebook_shows_tables_with_their_notes() -> None:
    found = capsbench.load_results(COMMITTED)
    html = found._repr_html_()
    assert html.count("<table>") == 1 and "<td>capsnet" in html
    assert "<small>Accuracy is in %. The heading says how many pixels" in html


def test_a_comparison_prints_the_tables_of_the_command() -> None:
    models = ["cnn-pool", "capsnet"]
    found = capsbench.compare(COMMITTED, models=models)
    assert str(found) == render_comparisons(compare_networks(COMMITTED, models))
    assert found.to_dict() == capsbench.compare(capsbench.load_results(COMMITTED), models=models).to_dict()
    assert "&lt; 1e" in found._repr_html_() or "B - A" in found._repr_html_()
    for wrong in ({}, {"second": COMMITTED, "models": models}):
        with pytest.raises(UsageError, match="give the second one, or two networks of the first as models="):
            capsbench.compare(COMMITTED, **wrong)


def test_labels_are_shown_and_not_obeyed() -> None:
    found = capsbench.load_results(COMMITTED)
    assert "<script>" not in Results([replace(found[0], label="<script>alert(1)</script>")])._repr_html_()


def test_dictionaries_hold_what_was_measured_under_its_place() -> None:
    found = capsbench.load_results(COMMITTED)
    for one, row in zip(found, found.to_dicts(), strict=True):
        best = one.metrics["checkpoints"]["best"]
        assert (row["suite"], row["label"], row["seed"], row["origin"]) == ("crowding", one.label, one.seed, "trained")
        assert row["best.alone"] == best["alone"]["share"]
        assert [row["best.digits.14.low"], row["best.digits.14.high"]] == best["digits"]["14"]["interval"]
        assert row["parameters"] == one.metrics["parameters"] and row["best.step"] == best["step"]
        assert all(isinstance(value, str | int | float) for value in row.values())
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))

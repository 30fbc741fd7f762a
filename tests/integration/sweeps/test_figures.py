"""Figures show the numbers of the table."""

from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest

from sweeps.analysis.figures import energies, figures
from sweeps.analysis.table import load
from tests.integration.sweeps.studies import ETA, MEDIAN, SECONDS, STEPS, THREE, grid, search, study


def points(axes) -> set[tuple[float, float]]:
    found = [xy for c in axes.collections for xy in np.ma.getdata(c.get_offsets())]
    return {(float(x), float(y)) for x, y in found}


def test_a_search_has_optunas_figures():
    trials = search(40)
    before = dict(matplotlib.rcParams)
    found = figures(trials)
    assert dict(matplotlib.rcParams) == before
    parts = {"history", "slice", "parallel", "importances"}
    assert found.keys() == parts | {f"energies_{p.removeprefix('sample.')}" for p in THREE}
    (history,) = found["history"].axes
    drawn = {(float(slot), value) for slot, value in trials.complete[MEDIAN].items()}
    assert drawn <= points(history)
    assert "relaxed" in history.get_ylabel()
    eta = found["slice"].axes[0]
    assert points(eta) == {(row[ETA], row[MEDIAN]) for _, row in trials.complete.iterrows()}
    assert eta.get_xscale() == "log"


def test_two_objectives_have_a_pareto_front_and_figures_each():
    trials = search(30, {MEDIAN: "minimize", SECONDS: "maximize"})
    found = figures(trials)
    assert {"history_1", "history_2", "slice_1", "slice_2", "pareto"} <= found.keys()
    (axes,) = found["pareto"].axes
    assert {(r[MEDIAN], r[SECONDS]) for _, r in trials.best.iterrows()} <= points(axes)


def test_energies_are_drawn_by_setting():
    trials = grid()
    (axes,) = energies(trials, ETA).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list(trials.settings(ETA))
    bars = [(p.get_y(), p.get_y() + p.get_height()) for p in axes.patches]
    settings = [rows.index for rows in trials.settings(ETA).values()]
    sets = [trials.energies_of(slots, n) for slots in settings for n in ("gen", "gen_relaxed")]
    np.testing.assert_allclose(bars, [np.quantile(values, [0.1, 0.9]) for values in sets])
    assert [p.get_facecolor()[3] for p in axes.patches] == pytest.approx([0.35] * 10 + [0.0] * 2)
    medians = {y for line in axes.lines if line.get_marker() == "o" for y in line.get_ydata()}
    assert medians >= set(trials.complete[MEDIAN])
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(line.get_ydata()) == {0.91}


def test_energies_of_each_labelled_evaluation_are_drawn():
    plain = grid()
    labelled = plain.energies.assign(set="lowE/" + plain.energies["set"])
    labelled["energy"] += 1.0
    rows = plain.trials.assign(**{"lowE/rss/energy_median": 1.5})
    trials = replace(plain, trials=rows, energies=pd.concat([plain.energies, labelled]))
    (axes,), (own,) = energies(trials, ETA, "lowE").axes, energies(plain, ETA).axes
    tops, below = ([p.get_y() + p.get_height() for p in a.patches] for a in (axes, own))
    assert tops == pytest.approx([top + 1.0 for top in below])
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert set(line.get_ydata()) == {1.5}
    drawn = {name for name in figures(trials) if name.startswith("energies")}
    assert drawn == {f"energies_{ETA.removeprefix('sample.')}{end}" for end in ("", "_lowE")}


def test_an_empty_study_has_no_figures():
    assert figures(load(study({STEPS: {"choices": [1, 2]}}))) == {}

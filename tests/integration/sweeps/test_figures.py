"""Figures show the study's numbers: checked on what is drawn, not on how it looks."""

import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import optuna
import pytest
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from experiments.harness.figures.plots import save
from experiments.harness.figures.style import COLOURS
from sweeps.analysis import drawing, figures
from sweeps.analysis import trials as answers
from sweeps.analysis.axes import Scale
from sweeps.analysis.names import knob_title, metric_title
from tests.integration.sweeps.studies import (
    ETA,
    MEDIAN,
    SECONDS,
    STEPS,
    THREE,
    add,
    grid,
    search,
    study,
)

ROOT = Path(__file__).parents[3]
TWO = {MEDIAN: "minimize", SECONDS: "minimize"}
KNOB = "sample.guide.eta_dt"


def points(axes, face) -> set[tuple[float, float]]:
    """Where markers of trials are, by the colour of their faces."""
    lines = [line for line in axes.lines if line.get_marker() == "o" and line.get_mfc() == face]
    return {
        (float(x), float(y))
        for line in lines
        for x, y in line.get_xydata()
        if len(line.get_xydata())
    }


def labelled(axes, label) -> np.ndarray:
    """The points of the lines in the legend under ``label``."""
    return np.concatenate([line.get_xydata() for line in axes.lines if line.get_label() == label])


def complete(made, good=True):
    return [o for o in answers.outcomes(made) if o.complete and o.good == good]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


# History


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_history_draws_every_trial_and_the_best_so_far(direction):
    made = search(60, {MEDIAN: direction})
    (axes,) = figures.history(made).axes
    good, bad = complete(made), complete(made, good=False)
    assert points(axes, COLOURS[0]) == {(o.number, o.trial.value) for o in good}
    assert points(axes, "white") == {(o.number, o.trial.value) for o in bad}
    assert len(bad) > 3
    best = labelled(axes, "best so far")
    steps = np.diff(best[:, 1]) * (1 if direction == "minimize" else -1)
    assert (steps <= 0).all()
    for number, value in best[:-1]:
        before = [o.trial.value for o in good if o.number <= number]
        assert value == (min if direction == "minimize" else max)(before)
    for state in ("pruned", "failed", "running"):
        there = {o.number for o in answers.outcomes(made) if o.state == state}
        assert there == set(labelled(axes, state)[:, 0])
    low, high = axes.get_ylim()
    assert all(low < o.trial.value < high for o in good + bad)


def test_history_of_two_objectives_has_a_panel_for_each():
    made = search(20, TWO)
    upper, lower = figures.history(made).axes
    for i, axes in enumerate((upper, lower)):
        assert points(axes, COLOURS[0]) == {(o.number, o.trial.values[i]) for o in complete(made)}
    assert lower.get_ylabel() == "Time of the whole trial (s)"
    assert upper.get_ylabel() == "Median energy, relaxed\n(eV above the reference minimum)"


# Slices


def test_slices_draw_trials_where_their_knobs_are():
    made = search(40)
    eta, steps, noise = figures.slices(made).axes
    for axes, knob in ((eta, KNOB), (steps, "sample.sampler.steps")):
        drawn = {(o.knobs[knob], o.trial.value) for o in complete(made)}
        assert points(axes, COLOURS[0]) == drawn
        assert axes.get_xscale() == "log"
        assert axes.get_xlabel() == knob.removeprefix("sample.")
        pruned = {o.knobs[knob] for o in answers.outcomes(made) if o.state == "pruned"}
        assert set(labelled(axes, "pruned")[:, 0]) == pruned
    assert [tick.get_text() for tick in noise.get_xticklabels()] == ["ancestral", "euler"]
    places = {"ancestral": 0.0, "euler": 1.0}
    drawn = {(places[o.knobs["sample.sampler.noise"]], o.trial.value) for o in complete(made)}
    assert points(noise, COLOURS[0]) == drawn


def test_intervals_are_drawn_at_their_trial():
    made = grid()
    (axes,) = figures.slices(made).axes
    found = {tuple(line.get_ydata()) for line in axes.lines if line.get_alpha() == 0.45}
    expected = [answers.measured([o], MEDIAN) for o in answers.outcomes(made)]
    assert found == {(e.low, e.high) for e in expected}
    low, high = axes.get_ylim()
    assert low < min(e.low for e in expected)
    assert high > max(e.high for e in expected)


def test_pooled_line_goes_through_the_settings():
    made = grid()
    (axes,) = figures.slices(made).axes
    feasible = [s for s in answers.settings(made, KNOB) if s.feasible]
    expected = [answers.measured(s.trials, MEDIAN).value for s in feasible]
    np.testing.assert_array_equal(labelled(axes, "pooled"), list(enumerate(expected)))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "0", "0.0001", "0.0003", "0.001", "0.003", "0.01",
    ]  # fmt: skip


def test_repeats_are_drawn_beside_each_other():
    made = grid()
    figure = figures.slices(made)
    save_nowhere(figure)
    (axes,) = figure.axes
    first = [line for line in axes.lines if line.get_marker() == "o" and line.get_xdata()[0] == 0]
    shown = [line.get_transform().transform(line.get_xydata())[0, 0] for line in first]
    middle = axes.transData.transform((0, 0.5))[0]
    assert len(shown) == 2
    assert shown[1] - shown[0] > figure.dpi * 4 / 72
    assert np.mean(shown) == pytest.approx(middle)


def save_nowhere(figure):
    """Lay it out, as saving does."""
    FigureCanvasAgg(figure).draw()


# Importances, Pareto front, parallel coordinates


def test_importance_bars_are_the_importances():
    made = search(60, TWO)
    (axes,) = figures.importance_bars(made).axes
    shares = answers.importances(made)
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == [knob_title(knob) for knob in reversed(THREE)]
    for bars, found in zip(axes.containers, shares.values(), strict=True):
        np.testing.assert_allclose(
            [b.get_width() for b in bars], [found[k] for k in reversed(THREE)]
        )
    assert "hint" not in axes.get_title(loc="right")
    assert "hint" in figures.importance_bars(search(12)).axes[0].get_title(loc="right")
    few = figures.importance_bars(search(3))
    assert not few.axes
    assert "8 completed trials" in few.texts[0].get_text()


@pytest.mark.parametrize("directions", list(product(["minimize", "maximize"], repeat=2)))
def test_pareto_front_separates_what_is_beaten(directions):
    made = search(50, dict(zip((MEDIAN, SECONDS), directions, strict=True)))
    figure = figures.pareto(made)
    axes = figure.axes[0]
    front = {tuple(t.values) for t in made.best_trials}
    assert points(axes, COLOURS[0]) == front
    beaten = {tuple(o.trial.values) for o in complete(made)} - front
    assert points(axes, figures.PALE) == beaten
    assert points(axes, "white") == {tuple(o.trial.values) for o in complete(made, good=False)}
    save_nowhere(figure)
    (line,) = [line for line in axes.lines if line.get_drawstyle().startswith("steps")]
    corners = line.get_path().vertices  # as drawn, with the steps
    signs = [1 if d == "minimize" else -1 for d in directions]
    for corner in corners:  # the line is the edge of what the front beats: reached, not beaten
        better = [all(s * (c - p) >= 0 for s, c, p in zip(signs, corner, point, strict=True))
                  for point in front]  # fmt: skip
        assert any(better)
        strictly = [all(s * (c - p) > 0 for s, c, p in zip(signs, corner, point, strict=True))
                    for point in front]  # fmt: skip
        assert not any(strictly)


def test_front_is_named_by_its_knob_or_by_numbers_with_a_key():
    one = grid(STEPS, {}, TWO)
    axes = figures.pareto(one).axes[0]
    assert texts(axes) == [str(t.params["sample.sampler.steps"]) for t in
                           sorted(one.best_trials, key=lambda t: t.values)]  # fmt: skip
    several = search(60, TWO)
    key, *numbers = texts(figures.pareto(several).axes[0])
    front = {t.number: t for t in several.best_trials}
    assert 0 < len(numbers) <= figures.LABELLED
    for number in numbers:
        params = front[int(number)].params
        assert f"{number}: {params[KNOB]:.3g}, {params['sample.sampler.steps']}, " in key


def test_parallel_coordinates_lie_between_the_ends():
    made = search(40)
    axes = figures.parallel(made).axes[0]
    lines = [line for line in axes.lines if len(line.get_ydata()) == 4]
    trials = sorted((o for o in answers.outcomes(made) if o.complete), key=lambda o: -o.trial.value)
    assert len(lines) == len(trials)
    values = [o.trial.value for o in trials]
    for line, o in zip(lines, trials, strict=True):
        expected = [
            np.log(o.knobs[KNOB] / 1e-4) / np.log(100),
            np.log(o.knobs["sample.sampler.steps"] / 25) / np.log(16),
            float(o.knobs["sample.sampler.noise"] == "euler"),
            (o.trial.value - min(values)) / (max(values) - min(values)),
        ]
        np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-9)
        assert line.is_dashed() != o.good
    grey = [np.dot(line.get_color()[:3], [0.3, 0.59, 0.11]) for line in lines]
    assert (np.diff(grey) <= 1e-9).all(), "the better, the darker, and on top"
    assert grey[0] < 0.85, "the worst is still seen on white"


# Energies and the answer


def test_spreads_are_the_quantiles():
    made = grid()
    (axes,) = figures.energies(made, KNOB).axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    expected, medians = [], []
    for place, setting in enumerate(answers.settings(made, KNOB)):
        for name, off in (("gen", -0.19), ("gen_relaxed", 0.19)):
            pooled = np.concatenate([o.energies(name) for o in setting.trials])
            low, middle, high = np.quantile(pooled, [0.1, 0.5, 0.9])
            expected.append([place + off, low, high])
            medians.append([place + off, middle])
    drawn = [[b.get_x() + b.get_width() / 2, b.get_y(), b.get_y() + b.get_height()] for b in bars]
    np.testing.assert_allclose(drawn, expected)
    dots = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, medians)
    line = [line for line in axes.lines if line.is_dashed()]
    assert line[0].get_ydata()[0] == 0.91, "random search's median"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "as generated", "relaxed", "random search (median)",
    ]  # fmt: skip
    assert len({tuple(b.get_edgecolor()[:3]) for b in bars}) == 2
    assert [b.get_facecolor()[3] > 0 for b in bars] == [True] * 10 + [False] * 2, "not feasible"


def test_wild_energies_are_cut_off_and_told():
    made = grid()
    wild = {"energies": {"gen": [500.0] * 24, "gen_relaxed": [77.0] * 24}}
    add(made, {KNOB: 0.01, "sample.seed": 0}, made.trials[0].distributions,
        np.random.default_rng(0), user_attrs=wild)  # fmt: skip
    (axes,) = figures.energies(made, KNOB).axes
    assert [text.split()[1] for text in texts(axes)] == ["500", "77"]
    tops = [p.get_y() + p.get_height() for p in axes.patches[:-2]]
    assert max(tops) < axes.get_ylim()[1] < 10
    assert axes.get_ylim()[0] > -0.5


def test_answer_shows_objectives_energies_and_words():
    made = grid(STEPS, {}, TWO)
    figure = figures.answer_figure(made)
    quality, cost, energies = figure.axes
    assert points(quality, COLOURS[0]) == {
        (t.params["sample.sampler.steps"], t.values[0]) for t in made.trials
    }
    assert points(cost, COLOURS[0]) == {
        (t.params["sample.sampler.steps"], t.values[1]) for t in made.trials
    }
    assert quality.get_xscale() == "log", "25, 50, ... 400 are even so"
    assert len(energies.get_xticklabels()) == 5
    assert figure.get_suptitle() == "How strongly should the force field pull?"
    assert figure.get_supxlabel().startswith("Median energy, relaxed: best at sampler.steps = ")


# Scales and names


@pytest.mark.parametrize(
    ("distribution", "kind"),
    [
        (FloatDistribution(1e-4, 1, log=True), "log"),
        (FloatDistribution(1e-4, 1), "linear"),
        (IntDistribution(1, 100), "linear"),
        (CategoricalDistribution((25, 50, 100, 200)), "log"),
        (CategoricalDistribution((1, 2, 3, 4)), "linear"),
        (CategoricalDistribution((3.0, 10.0, 40.0)), "log"),
        (CategoricalDistribution((0.0, 0.001, 0.01, 0.1)), "ordinal"),
        (CategoricalDistribution((0.0, 0.5, 1.0)), "linear"),
        (CategoricalDistribution(("a", "b")), "ordinal"),
        (CategoricalDistribution((True, False)), "ordinal"),
        (CategoricalDistribution((0.5,)), "ordinal"),
    ],
)
def test_knobs_get_the_scale_that_suits_them(distribution, kind):
    scale = Scale.of_knob(distribution)
    assert scale.kind == kind
    low, high = scale.limits()
    assert low < scale.at(scale.low) <= scale.at(scale.high) < high
    assert scale.share(scale.low) <= scale.share(scale.high)
    assert scale.ticks()[0] == scale.low
    assert scale.ticks()[-1] == scale.high


def test_names_are_for_readers():
    assert knob_title(KNOB) == "guide.eta_dt"
    assert metric_title("gen/energy_p10") == (
        "10 % quantile of energy, generated (eV above the reference minimum)"
    )
    assert metric_title("seconds/sample") == "Time of sampling (s)"
    assert metric_title("score/unheard_of") == "score/unheard_of"


# All of it, whatever the study


def failed(state=TrialState.FAIL):
    made = study(space=ETA)
    for value in (0.0, 0.001, 0.01):
        add(made, {KNOB: value}, ETA, np.random.default_rng(0), state)
    return made


STUDIES = {
    "empty": study, "waiting": lambda: waiting(), "failed": failed, "one": lambda: search(1),
    "three": lambda: search(3), "twelve, two objectives": lambda: search(12, TWO),
    "grid": grid, "grid, two objectives": lambda: grid(STEPS, {}, TWO),
    "one knob": lambda: search(14, space={KNOB: FloatDistribution(1e-4, 1e-2, log=True)}),
    "choices": lambda: grid({"score.sde": CategoricalDistribution(("vp", "brownian"))}),
    "nothing feasible": lambda: grid({KNOB: CategoricalDistribution((0.01,))}),
    "two structures": lambda: grid(n=2),
}  # fmt: skip


def waiting():
    made = study(space=ETA)
    made.add_trials([optuna.create_trial(state=TrialState.WAITING)] * 4)
    return made


@pytest.mark.parametrize("kind", STUDIES)
def test_every_study_can_be_drawn(kind, recwarn):
    made = STUDIES[kind]()
    before = dict(rcParams)
    found = figures.figures(made)
    for figure in found.values():
        save_nowhere(figure)
    assert dict(rcParams) == before
    assert [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)] == []
    assert ("pareto" in found) == (len(made.directions) > 1)
    assert ("answer" in found) == (len(answers.questions(made)) == 1)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in found), "names that files can have"


def test_a_figure_is_the_same_file_again(tmp_path):
    for name in ("one", "two"):
        save(figures.answer_figure(grid()), tmp_path / f"{name}.png")
    for kind in ("png", "svg"):
        files = [(tmp_path / f"{name}.{kind}").read_bytes() for name in ("one", "two")]
        assert files[0] == files[1]


def test_pyplot_is_never_loaded():
    code = (
        "import sys; from sweeps import figures\n"
        "from tests.integration.sweeps.studies import search\n"
        "figures.figures(search(12))\n"
        "sys.exit('pyplot was loaded' if 'matplotlib.pyplot' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_states_without_a_result_all_have_a_mark():
    assert set(drawing.UNFINISHED) == set(answers.STATES.values()) - {"complete", "waiting"}

"""Figures show the data's numbers: checked on what is drawn, not on how it looks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms
from matplotlib import rcParams
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle, StepPatch

from experiments.harness.figures import of_experiment, plots
from experiments.harness.figures.spheres import PIXELS, render
from experiments.harness.figures.style import COLOURS
from experiments.harness.figures.views import MARGIN, drawn_radii

ROOT = Path(__file__).parents[3]


def surface(oxygen=(1.0, 1.0)) -> Atoms:
    atoms = fcc111("Ag", (2, 2, 2), a=4.15, vacuum=6)
    atoms.pbc = (True, True, False)
    top = atoms.positions[:, 2].max()
    atoms += Atoms("O", [[*oxygen, top + 1.3]])
    atoms.set_constraint(FixAtoms(range(8)))
    return atoms


def steps(figure: Figure) -> list[StepPatch]:
    """The filled histograms, in the order of the sets."""
    return [p for p in figure.axes[0].patches if isinstance(p, StepPatch) and p.get_fill()]


def beyond(figure: Figure) -> list[tuple[str, list[float]]]:
    """Name of the tick and heights, set by set, of each bar beside the bins."""
    axes = figure.axes[0]
    bars = [p for p in axes.patches if isinstance(p, Rectangle)]
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    sides = [(x, text.get_text()) for x, text in ticks if text.get_text()[0] in "<>"]
    near = [min(sides, key=lambda side: abs(side[0] - bar.get_center()[0])) for bar in bars]
    return [
        (name, [bar.get_height() for bar, side in zip(bars, near, strict=True) if side[0] == x])
        for x, name in sides
    ]


def labels(figure: Figure, axes: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[axes].get_legend().get_texts()]


def test_histogram_is_the_share_per_common_bin():
    rng = np.random.default_rng(0)
    sets = {"RSS": rng.gamma(3, 0.4, 60) - 81.4, "generated": rng.gamma(2, 0.2, 200) - 81.4}
    figure = plots.energy_histogram(sets, reference=-81.4)
    drawn = steps(figure)
    for step, energies in zip(drawn, sets.values(), strict=True):
        shares, edges, _ = step.get_data()
        np.testing.assert_array_equal(edges, drawn[0].get_data().edges)
        expected = np.histogram(energies + 81.4, edges)[0] / len(energies)
        np.testing.assert_allclose(shares, expected, atol=1e-12)
        widths = np.diff(edges)
        np.testing.assert_allclose(widths, widths[0], rtol=1e-9)
        assert edges[0] <= min(min(s) for s in sets.values()) + 81.4
        np.testing.assert_allclose(edges / widths[0], np.rint(edges / widths[0]), atol=1e-9)
    medians = [line.get_xdata()[0] for line in figure.axes[0].lines if len(line.get_xdata())]
    np.testing.assert_allclose(medians, [np.median(e) + 81.4 for e in sets.values()], atol=1e-9)
    assert beyond(figure) == []
    assert "(n = 200" in labels(figure)[1]


def test_histogram_takes_given_bins_and_counts_what_lies_beyond():
    sets = {"a": [0.1, 0.2, 5.0, np.nan, np.inf], "b": [0.7, -1.0, -2.0, 0.9]}
    figure = plots.energy_histogram(sets, bins=[0.0, 0.5, 1.0])
    np.testing.assert_allclose(steps(figure)[0].get_data().values, [2 / 3, 0])
    np.testing.assert_allclose(steps(figure)[1].get_data().values, [0, 2 / 4])
    (left, below), (right, above) = beyond(figure)
    assert (left, right) == ("< 0", "> 1")
    np.testing.assert_allclose([below, above], [[0, 2 / 4], [1 / 3, 0]])


def test_the_axis_names_its_zero():
    figure = plots.energy_histogram({"a": [0.1]}, zero="the lowest of this run")
    assert "the lowest of this run (eV)" in figure.axes[0].get_xlabel()


def test_one_wild_energy_does_not_flatten_the_others():
    energies = np.linspace(0, 1, 99)
    figure = plots.energy_histogram({"a": [*energies, 1e6, -1e6], "b": energies})
    edges = steps(figure)[0].get_data().edges
    assert -0.2 < edges[0] < edges[-1] < 1.2
    np.testing.assert_allclose([h for _, h in beyond(figure)], [[1 / 101, 0], [1 / 101, 0]])
    assert steps(figure)[1].get_data().values.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("spread", [20.0, 300.0])
def test_a_wide_set_does_not_flatten_a_narrow_one(spread):
    """As-generated energies beside relaxed ones: no bins of 10 eV."""
    relaxed, generated = np.linspace(0, 1, 32), np.linspace(0.5, spread, 32)
    figure = plots.energy_histogram({"generated": generated, "relaxed": relaxed})
    edges = steps(figure)[0].get_data().edges
    assert np.diff(edges).max() <= 0.25
    share = [step.get_data().values.sum() for step in steps(figure)]
    ((_, above),) = beyond(figure)
    np.testing.assert_allclose(np.array(share) + above, 1)
    assert above[0] > 0.5
    assert above[1] == 0


def test_sets_that_are_all_wide_keep_their_bins():
    figure = plots.energy_histogram({"a": np.linspace(0, 90, 50), "b": np.linspace(5, 70, 50)})
    assert steps(figure)[0].get_data().edges[-1] == 90
    assert beyond(figure) == []


@pytest.mark.parametrize("energies", [[], [np.nan], [0.3], [0.3, 0.3]])
def test_histogram_of_next_to_nothing(energies, tmp_path):
    plots.save(plots.energy_histogram({"a": energies}), tmp_path / "a.png")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_learning_curves_draw_every_logged_number():
    rows = [
        {"train/step": s, "train/loss": 1 / (1 + s), "train/learning_rate": 0.1} for s in range(5)
    ]
    rows += [{"train/step": 4, "val/loss": 0.3, "note": "x"}, {"gen/n": 3}, {"event": "figure"}]
    rows += [{"train/step": 3, "val/loss": None}]
    figure = plots.learning_curves(rows)
    loss, lr = figure.axes[:2]
    assert (loss.get_title(), lr.get_title()) == ("Loss", "Learning rate")
    train, val = loss.lines
    np.testing.assert_allclose(train.get_xydata(), [[s, 1 / (1 + s)] for s in range(5)])
    np.testing.assert_allclose(val.get_xydata(), [[4, 0.3]])
    assert train.get_color() == COLOURS[0] != val.get_color()
    assert labels(figure) == ["train", "val"]


def test_long_noisy_curves_are_smoothed_without_bias():
    rows = [{"train/step": s, "train/loss": 1.0 + 0.01 * s} for s in range(600)]
    raw, mean = plots.learning_curves(rows).axes[0].lines
    np.testing.assert_allclose(raw.get_ydata(), 1.0 + 0.01 * np.arange(600))
    np.testing.assert_allclose(mean.get_ydata(), 1.0 + 0.01 * mean.get_xdata(), atol=0.011)


def test_counts_are_bars_in_chemical_order():
    table = {
        "D": {"Ag6O5": 9, "Ag4O2": 7, "Ag10O2": 1},
        "D_lowE": {"Ag4O2": 3},
    }
    figure = plots.counts_per_stoichiometry(table)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "Ag$_{4}$O$_{2}$",
        "Ag$_{6}$O$_{5}$",
        "Ag$_{10}$O$_{2}$",
    ]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert heights == [[7, 9, 1], [3, 0, 0]]
    assert labels(figure) == ["D (n = 17)", "D$_{\\mathrm{lowE}}$ (n = 3)"]
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
    assert all(a[1] <= b[0] + 1e-9 for a, b in zip(edges, edges[1:], strict=False))


def test_overview_has_counts_energies_and_curves():
    rows = [{"train/step": s, "train/loss": 2.0 - s, "forcefield/force_mae": 5.0} for s in (0, 1)]
    figure = plots.training_overview(rows, {"D": {"Ag4O2": 3}}, {"D": [0.1, 0.2]})
    panels = [axes for subfigure in figure.subfigs for axes in subfigure.axes]
    assert [p.get_ylabel() for p in panels[:2]] == [
        "Structures",
        "Share of structures per 0.005 eV",
    ]
    assert [p.get_title() for p in panels[2:]] == ["Training loss", "Force MAE (meV/Å)"]


def image(axes):
    """The picture, and a function from Å in it to pixels."""
    (drawn,) = axes.get_images()
    left, right, bottom, top = drawn.get_extent()
    picture = np.asarray(drawn.get_array())
    rows, columns = picture.shape[:2]

    def at(x, y):
        row = int((top - y) / (top - bottom) * rows)
        return picture[row, int((x - left) / (right - left) * columns)]

    return picture, at


def is_red(pixel):
    return pixel[3] > 0.9 and pixel[0] > 1.5 * pixel[1]


def test_top_view_shows_atoms_where_they_are():
    atoms = surface()
    figure = plots.structures([atoms], ["best"])
    top, side = figure.axes
    assert top.get_title() == "best"
    picture, at = image(top)
    x, y, _ = atoms.positions[-1]
    assert is_red(at(x, y))
    a, b, _ = atoms.cell
    image_of_it = at(*(atoms.positions[-1] + a)[:2])
    assert is_red(image_of_it)
    assert image_of_it[1] > at(x, y)[1] + 0.2, "periodic images are faded"
    red = (picture[..., 3] > 0.9) & (picture[..., 0] > 1.5 * picture[..., 1])
    assert red.any()
    assert not is_red(at(x + 1.0, y + 1.0))
    outline = top.lines[0].get_xydata()
    np.testing.assert_allclose(outline[:4], [[0, 0], a[:2], (a + b)[:2], b[:2]], atol=1e-9)
    assert side.get_ylim()[1] > atoms.positions[:, 2].max()


def test_side_view_shows_heights():
    atoms = surface()
    _, side = plots.structures([atoms]).axes
    _, at = image(side)
    along = atoms.cell[0] / np.linalg.norm(atoms.cell[0])
    across = atoms.positions[-1] @ along
    height = atoms.positions[-1, 2] + 0.5 * drawn_radii(np.array([8]))[0]
    assert is_red(at(across, height))
    image_of_it = at(across + np.linalg.norm(atoms.cell[0]), height)
    assert is_red(image_of_it)
    assert image_of_it[1] > at(across, height)[1] + 0.2, "periodic images are faded"
    assert at(across, atoms.positions[:, 2].max() + 1.2)[3] == 0, "nothing above the surface"


@pytest.mark.parametrize("shift", [(3, 0), (-2, 5)])
def test_whole_cell_shifts_of_an_atom_change_nothing(shift):
    atoms, moved = surface(), surface()
    moved.positions[-1] += np.array([*shift, 0]) @ atoms.cell
    for one, other in zip(
        plots.structures([atoms]).axes, plots.structures([moved]).axes, strict=True
    ):
        np.testing.assert_allclose(image(one)[0], image(other)[0], atol=0.02)


def test_substrate_is_paler_than_overlayer():
    atoms = surface()
    atoms += Atoms("Ag", [atoms.positions[4] + [0, 0, 2.4]])
    covered, bare = plots.structures([atoms]).axes[0], plots.structures([surface()]).axes[0]
    x, y = atoms.positions[4, :2]
    assert image(covered)[1](x, y)[:3].mean() < image(bare)[1](x, y)[:3].mean() - 0.1


def test_atoms_that_are_not_finite_are_left_out(tmp_path):
    atoms = surface()
    atoms.positions[-1] = np.nan
    bare = surface()
    del bare[-1]
    drawn, expected = plots.structures([atoms]).axes[0], plots.structures([bare]).axes[0]
    np.testing.assert_array_equal(image(drawn)[0], image(expected)[0])


def test_path_names_the_times():
    figure = plots.path([surface((x, 1.0)) for x in (0.2, 0.6, 1.0)])
    assert [axes.get_title() for axes in figure.axes[:3]] == ["t = 1", "t = 0.5", "t = 0"]
    with pytest.raises(ValueError, match="2 structures need as many times, not 3"):
        plots.path([surface(), surface()])
    with pytest.raises(ValueError, match="no structure"):
        plots.structures([])


def test_renderer_against_geometry():
    """One sphere is a disc of its area, its light symmetric about the light's direction; of two
    that intersect each shows the part that is nearer, divided by a straight line."""
    low, high = np.array([-2.0, -2.0]), np.array([2.0, 2.0])
    one = render(np.zeros((1, 2)), np.zeros(1), np.array([1.5]), np.ones((1, 3)), low, high)
    assert one.shape == (4 * PIXELS, 4 * PIXELS, 4)
    assert one[..., 3].sum() / PIXELS**2 == pytest.approx(np.pi * 1.5**2, rel=1e-3)

    centres = np.array([[-0.5, 0.0], [0.5, 0.0]])
    red_blue = np.array([[1.0, 0, 0], [0, 0, 1.0]])
    two = render(centres, np.zeros(2), np.ones(2), red_blue, low, high)
    middle = two.shape[1] // 2
    inside = two[..., 3] > 0.99
    assert (two[:, : middle - 1, 0] >= two[:, : middle - 1, 2])[inside[:, : middle - 1]].all()
    assert (two[:, middle + 1 :, 2] >= two[:, middle + 1 :, 0])[inside[:, middle + 1 :]].all()

    hidden = render(np.zeros((2, 2)), np.array([0.0, 3.0]), np.ones(2), red_blue, low, high)
    assert hidden[..., 0].max() < hidden[..., 2].max()
    assert hidden[two.shape[0] // 2, middle, 2] > hidden[two.shape[0] // 2, middle, 0]


def test_cell_vectors_longer_than_wide_lie_in_the_side_view():
    atoms = fcc111("Ag", (1, 4, 2), a=4.15, vacuum=6)
    side = plots.structures([atoms]).axes[1]
    length = np.linalg.norm(atoms.cell[1])
    np.testing.assert_allclose(side.get_xlim(), [-MARGIN, length + MARGIN])


def test_saving_is_reproducible_and_leaves_settings_alone(tmp_path):
    before = dict(rcParams)
    for name in ("one", "two"):
        figure = plots.structures([surface()])
        assert plots.save(figure, tmp_path / f"{name}.png") == tmp_path / f"{name}.png"
    for kind in ("png", "svg"):
        files = [(tmp_path / f"{name}.{kind}").read_bytes() for name in ("one", "two")]
        assert files[0] == files[1]
    assert dict(rcParams) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "one.png",
        "one.svg",
        "two.png",
        "two.svg",
    ]


def test_colours_stay_apart_for_the_colour_blind():
    """Machado et al. 2009, severity 1: no two of the first five come close in simulated sRGB."""
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                   [-0.011820, 0.042940, 0.968881]],
    }  # fmt: skip
    srgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS[:5]])
    for matrix in matrices.values():
        seen = srgb**2.2 @ np.array(matrix).T
        seen = np.clip(seen, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(5, 1)]
        assert apart.min() > 0.15


def test_pyplot_is_never_loaded():
    code = (
        "import sys; from experiments.harness.figures import evaluation_page, page, plots\n"
        "plots.energy_histogram({'a': [0.0, 1.0]})\n"
        "sys.exit('pyplot was loaded' if 'matplotlib.pyplot' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_arrows_lead_from_a_structure_to_its_energy():
    energies = {"random search": np.array([0.0, 0.9, 1.1]), "a": np.array([0.2, 0.4])}
    examples = {"a": (surface(), 0.2), "b": (surface((2.0, 2.0)), 7.0)}
    figure = of_experiment.energies_with_structures(
        energies | {"b": np.array([0.5])}, examples, "E"
    )
    arrows = [artist for artist in figure.artists if isinstance(artist, ConnectionPatch)]
    *_, axes = figure.axes
    assert [arrow.xy2 for arrow in arrows] == [
        (0.2, axes.get_ylim()[1]),
        (axes.get_xlim()[1], axes.get_ylim()[1]),
    ]
    colours = [to_hex(arrow.get_edgecolor()).upper() for arrow in arrows]
    assert colours == [COLOURS[1], COLOURS[2]]
    assert [place.get_title() for place in figure.axes[:2]] == ["a: +0.20 eV", "b: +7.00 eV"]


def test_medians_stand_over_their_numbers_of_steps_with_their_intervals():
    table = pd.DataFrame(
        [("ours", 100, True, 1.0, 0.9, 1.3), ("ours", 10, True, 2.0, 1.5, 2.2)],
        columns=["series", "steps", "relaxed", "median", "low", "high"],
    )
    (axes,) = of_experiment.against_steps(table, "E").axes
    (bars,) = axes.containers
    assert bars.lines[0].get_xydata().tolist() == [[10, 2.0], [100, 1.0]]
    segments = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(segments, [[[10, 1.5], [10, 2.2]], [[100, 0.9], [100, 1.3]]])
    assert axes.get_xscale() == "log"


def test_settings_have_rows_and_their_trainings_points_with_intervals():
    rows = [
        ("a", "evaluate_a", "relaxed", 0.3, 0.2, 0.5),
        ("a", "evaluate_a_seed1", "relaxed", 0.4, 0.3, 0.6),
        ("b", "evaluate_b", "relaxed", 1.0, 0.9, 1.1),
        ("a", "evaluate_a", "lowest minimum", 0.1, 0.0, 0.2),
    ]
    table = pd.DataFrame(rows, columns=["setting", "stage", "quantity", "value", "low", "high"])
    relaxed, share = of_experiment.of_settings(table, "E").axes
    assert [label.get_text() for label in relaxed.get_yticklabels()] == ["a", "b"]
    assert relaxed.get_ylim()[0] > relaxed.get_ylim()[1]  # the first is above
    segments = [bars.lines[2][0].get_segments() for bars in relaxed.containers]
    ends = [[segment[:, 0].tolist() for segment in some] for some in segments]
    assert ends == [[[0.2, 0.5], [0.3, 0.6]], [[0.9, 1.1]]]
    heights = np.concatenate([bars.lines[0].get_ydata() for bars in relaxed.containers])
    np.testing.assert_array_equal(np.round(heights), [0, 0, 1])
    assert len(set(heights)) == 3
    assert share.containers[0].lines[0].get_xdata().tolist() == [0.1]

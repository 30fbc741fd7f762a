"""The comparing page shows what the runs' folders hold: in its table, its charts, its gallery."""

import json
import re
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.comparison.compare import FINE, POINTS, compare
from experiments.harness.comparison.config_diff import table, text
from experiments.harness.comparison.run_reader import find, read, short_names
from experiments.harness.figures.plots import save
from experiments.harness.generation.reference import on_the_surface
from experiments.harness.runs.energies import EDGES, bin_counts, energy_statistics
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.data import load_set
from tests.integration.harness.test_page import NASTY, READY, Reader, surface


def gen(seed, n=40):
    rng = np.random.default_rng(seed)
    return {
        "gen": rng.gamma(4, 0.5, n).tolist(),
        "gen_relaxed": [*rng.gamma(3, 0.25, n - 1).tolist(), 6.5],
    }


def evaluation(path, seed, **changed):
    """An evaluation's folder as evaluate leaves it, without the relaxing."""
    run = RunFolder(path)
    sampled = {"guide": {"eta_dt": 0.001, "max_force": 10.0}, "sampler": {"steps": 200}}
    own = {key: changed.pop(key) for key in ("calculator", "relaxation") if key in changed}
    config = {"name": run.name, "seed": 0, "tolerance": 0.6, **own}
    run.save_config(config | {"sampled": sampled | changed})
    summary = {"gen/n": 40, "gen/frac_valid": 0.5 + seed / 100, "rss/n": 70}
    for name, values in gen(seed).items():
        statistics = energy_statistics(name, values)
        run.log({"event": "energies", "name": name, "energies": [*values, np.nan], **statistics})
        summary |= statistics
    summary["gen_relaxed/energy_min_abs"] = summary["gen_relaxed/energy_min"] - 80.0
    frames = [surface(k, -80.0 + e) for k, e in enumerate(sorted(gen(seed)["gen_relaxed"])[:6])]
    run.save_structures("relaxed", frames)
    run.log({"event": "structures", "name": "relaxed", "file": run / "structures/relaxed.extxyz"})
    run.update_summary(summary)
    return run


def training(path, kind, steps=8, rate=0.001):
    run = RunFolder(path)
    run.save_config({"name": run.name, "task": {"kind": kind}, "train": {"learning_rate": rate}})
    for step in range(1, steps + 1):
        row = {"train/step": step, "train/loss": 1 / step, "train/grad_norm": 1.0}
        if step % 4 == 0:
            row["val/loss"] = 2 / step
            if kind == "forcefield":
                row |= {"forcefield/energy_mae": 40 / step, "forcefield/force_mae": 100 / step}
        run.log(row)
    run.update_summary(row)
    return run


def trial(path, number, eta):
    """A sweep's trial: a folder whose stages are run folders inside of it."""
    run = RunFolder(path)
    own = {"score": str(path / "train/score"), "n": 40}
    stages = {"sample": {"seed": number, "guide": {"eta_dt": eta}, **own}}
    params = {"sample.guide.eta_dt": eta}
    config = {"study": "eta", "trial": run.name, "seed": number, "params": params}
    run.save_config(config | {"stages": stages})
    training(path / "train/score", "score")
    training(path / "train/forcefield", "forcefield", steps=4)
    inner = evaluation(path / "evaluate/Ag6O3", 10 + number)
    run.update_summary(
        inner.summary | {"optuna/state": "complete", "knob/eta": eta, "seconds/all": 60.0}
    )
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three evaluations, two trainings, a sweep of two trials, in an order that is not theirs."""
    home = tmp_path_factory.mktemp("x") / "runs"
    evaluation(home / "evaluate/low", 1)
    evaluation(home / "evaluate/high", 2, guide={"eta_dt": 0.01, "max_force": 10.0})
    evaluation(home / "evaluate/none", 3, guide=None)
    training(home / "train/score", "score")
    training(home / "train/long", "score", steps=4 * POINTS, rate=0.01)
    for number, eta in enumerate((0.02, 0.005)):
        trial(home / f"sweeps/eta/{number:04d}", number, eta)
    study = RunFolder(home / "sweeps/eta/study")
    study.save_config({"sweep": {"name": "eta", "question": "Does it help?", "hypothesis": "Yes."}})
    figure = Figure((3, 2))
    figure.add_subplot().plot([1, 2])
    save(figure, study / "figures/history.png")
    return home


@pytest.fixture(scope="module")
def page(runs):
    return compare([runs], runs / "all.html")[0]


# Finding and reading


def test_a_folder_stands_for_all_runs_below_it(runs):
    found, sweeps = find([runs])
    names = [str(path.relative_to(runs)) for path in found]
    assert names == [
        *(f"evaluate/{name}" for name in ("high", "low", "none")),
        "sweeps/eta/0000", "sweeps/eta/0001", "train/long", "train/score",
    ]  # fmt: skip
    assert sweeps == [runs / "sweeps/eta/study"]
    assert find([runs / "train/score", runs / "train"])[0] == [
        runs / "train/score",
        runs / "train/long",
    ], "once each, in the order given"


def test_links_are_not_followed(runs, tmp_path):
    evaluation(tmp_path / "own", 1)
    (tmp_path / "link").symlink_to(runs / "evaluate")
    (tmp_path / "own" / "back").symlink_to(tmp_path)
    assert find([tmp_path])[0] == [tmp_path / "own"]


def test_names_are_as_short_as_they_can_be(tmp_path):
    paths = [tmp_path / name for name in ("a/x", "b/x", "b/y", "c/a/z", "d/a/z")]
    assert short_names(paths) == ["a/x", "b/x", "y", "c/a/z", "d/a/z"]


def test_a_trial_has_what_its_stages_hold(runs):
    run = read(runs / "sweeps/eta/0001", 4)
    assert run.config["sample.guide.eta_dt"] == 0.005
    assert run.config["score.train.learning_rate"] == 0.001
    assert run.config["sample.score"] == "train/score"
    assert run.results["score/loss"] == 0.25
    assert run.results["forcefield/energy_mae"] == 10.0
    assert run.results["gen/frac_valid"] == 0.61
    assert not any(key.startswith("knob/") for key in run.results)
    np.testing.assert_array_equal(run.energies["gen"], gen(11)["gen"])
    assert run.curves["score", "val/loss"] == {4: 0.5, 8: 0.25}
    assert ("forcefield", "forcefield/force_mae") in run.curves
    lowest = sorted(gen(11)["gen_relaxed"])[:4]
    reported = [facts["E - E_ref (eV)"] for _, facts in run.structures]
    np.testing.assert_allclose(reported, lowest, atol=6e-4)


def test_random_search_of_the_same_surface_is_the_reference(tmp_path):
    data = load_set("rss_ag6o3_p3x3")
    for name in ("same", "other"):
        run = evaluation(tmp_path / name, 1)
        how = {key: data.meta[key] for key in ("calculator", "relaxation")}
        if name == "other":
            how["relaxation"] = how["relaxation"] | {"fmax": 0.01}
        RunFolder(tmp_path / name).save_config(run.config | how, may_change=how)
        run.save_structures("relaxed", [data.atoms(3)])
    same, other = (read(tmp_path / name, 1).reference for name in ("same", "other"))
    kept = on_the_surface(data)
    np.testing.assert_allclose(np.sort(same.energies), np.sort(kept.energy - kept.energy.min()))
    assert other is None, "its energies do not compare"


def test_killed_runs_are_read_as_far_as_they_came(tmp_path):
    bare = RunFolder(tmp_path / "bare")
    bare.save_config({"seed": 1})
    killed = training(tmp_path / "killed", "score")
    for step in (7, 8):  # continued from step 6: the last word counts
        killed.log({"train/step": step, "train/loss": 0.5})
    with open(killed / "metrics.jsonl", "a") as file:
        file.write('{"train/step": 9, "train/lo')
    frames = [surface(k, energy) for k, energy in enumerate((-79.0, -81.0, -80.0))]
    killed.append_structures("relaxed", frames)
    with open(killed / "structures/relaxed.extxyz", "a") as file:
        file.write("15\nLattice=")
    run = read(killed.path, 2)
    assert [run.curves["score", "train/loss"][step] for step in (6, 7, 8)] == [1 / 6, 0.5, 0.5]
    assert 9 not in run.curves["score", "train/loss"]
    assert [facts["energy (eV)"] for _, facts in run.structures] == [-81.0, -80.0]
    page, count = compare([tmp_path])
    assert (page, count) == (tmp_path / "compare.html", 2)
    assert "bare" in page.read_text()


def test_only_the_structures_that_are_shown_are_parsed(tmp_path):
    """ASE reads some 400 frames a second: 500 runs of 64 structures would take over a minute."""
    run = evaluation(tmp_path / "a", 1)
    shown = [(float(a.get_potential_energy()), facts) for a, facts in read(run.path, 2).structures]
    path = run / "structures/relaxed.extxyz"
    lowest, second, *others = RunFolder(run.path).structures("relaxed")
    path.unlink()
    run.append_structures("relaxed", others)
    path.write_text(re.sub(r"(?m)^Ag .*$", "Ag of no use", path.read_text()))  # no ASE reads these
    run.append_structures("relaxed", [second, lowest])
    again = read(run.path, 2).structures
    assert [(float(a.get_potential_energy()), facts) for a, facts in again] == shown
    with pytest.raises(ValueError, match="frame 0 declares"):
        read(run.path, 3)


# The table


def test_only_what_differs_is_a_column(runs):
    found, _ = find([runs / "evaluate"])
    columns, same = table([read(path, 0) for path in found])
    by_key = {column["key"]: column for column in columns}
    order = [(c["kind"], c["main"]) for c in columns]
    assert order == sorted(order, key=[("result", True), ("result", False), ("config", True)].index)
    assert [c["key"] for c in columns if c["kind"] == "config"] == ["sample.guide.eta_dt"] + [
        "sample.guide.max_force"
    ]
    cells = by_key["sample.guide.eta_dt"]["cells"]
    assert [cell["value"] for cell in cells] == [0.01, 0.001, None]
    assert [cell["text"] for cell in cells] == ["0.01", "0.001", "–"]
    assert by_key["sample.guide.eta_dt"]["unit"] == "Å²/eV"
    valid = by_key["gen/frac_valid"]
    assert (valid["unit"], [c["text"] for c in valid["cells"]]) == ("%", ["52", "51", "53"])
    assert by_key["gen/energy_median"]["unit"] == "eV"
    reported = {one["key"]: one["text"] for one in same}
    assert reported["sample.sampler.steps"] == "200"
    assert reported["rss/n"] == "70"
    assert reported["evaluate.tolerance"] == "0.6 Å"
    assert "name" not in reported | by_key


def test_stages_with_the_same_value_share_a_column(runs):
    found, _ = find([runs / "sweeps"])
    columns, _ = table([read(path, 0) for path in found])
    seed = next(column for column in columns if column["key"] == "seed")
    assert "sample.seed" in seed["also"]
    assert [c["key"] for c in columns if c["name"] == "eta_dt"] == ["sample.guide.eta_dt"]


def test_values_are_written_for_people():
    assert [text("x", value) for value in (None, True, [1.0, 5.0], 0.000123456, 1234.6, 3)] == [
        "none", "yes", "1, 5", "0.0001235", "1235", "3",
    ]  # fmt: skip
    assert text("calculator._target_", "experiments.calculators.chgnet") == "chgnet"
    assert text("score", "/a/b/runs/train/x") == "…/train/x"


def test_the_bins_are_the_common_ones_in_halves():
    assert FINE[::2].tolist() == EDGES.tolist()


# The command


def command(*arguments):
    reported = subprocess.run(
        [sys.executable, "-m", "experiments", "compare", *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    return reported.returncode, reported.stdout, reported.stderr


def test_the_command_prints_where_the_page_is(runs):
    code, out, _ = command(runs / "evaluate/low", runs / "evaluate/none")
    assert (code, out) == (0, f"2 runs compared: look at {runs}/evaluate/compare.html\n")
    assert (runs / "evaluate/compare.html").is_file()


@pytest.mark.parametrize(
    ("paths", "more", "message"),
    [
        (["nowhere"], [], "nowhere is not a folder"),
        (["empty"], [], "empty holds no run: a run is a folder with config.yaml"),
        (["one"], ["--names", "a", "b"], "--names gives 2 names, but there are 1 runs"),
        (["one", "two"], ["--names", "a", "a"], "--names must give every run another name"),
        (["one"], ["-o", "empty"], "empty is a folder"),
        (["broken"], [], "broken/config.yaml "),
        (["study"], [], "study is a sweep without trials"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, paths, more, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("one", "two"):
        RunFolder(name).save_config({"seed": 0})
    (RunFolder("broken") / "config.yaml").write_text("a: [1,\n")
    RunFolder("study").save_config({"sweep": {"name": "s"}})
    with pytest.raises(SystemExit) as ended:
        surfdiff(["compare", *paths, *more])
    assert ended.value.code == 2
    reported = capsys.readouterr().err
    assert message in reported
    assert reported.count("\n") == 1


# The page


def test_everything_is_in_the_file(page):
    content = page.read_text(encoding="utf-8")
    reader = Reader(content)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", content)
    policy = next(m["content"] for m in reader.named("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    assert policy.count("'sha256-") == 3
    assert "Question: Does it help? Hypothesis: Yes." in reader.text
    (image,) = reader.named("img")
    assert image["alt"] == "history"
    assert page.stat().st_size < 1_000_000


@pytest.fixture
def opened(browser, page):
    browser.errors.clear()
    browser.requests.clear()
    browser.open(page, READY)
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]


def click(browser, selector):
    browser.value(f"document.querySelector({json.dumps(selector)}).click()")
    browser.settle()


def choose(browser, name, value):
    browser.value(
        f"(() => {{ const c = document.querySelector('[name={name}]'); c.value = '{value}';"
        "c.dispatchEvent(new Event('change')); })()"
    )
    browser.settle()


def pick(browser, *names):
    """Only these, by clicking on what a user would."""
    browser.value("[...document.querySelectorAll('.buttons button')].at(-1).click()")
    for name in names:
        browser.value(
            "[...document.querySelectorAll('.chip')]"
            f".find(chip => chip.textContent === {json.dumps(name)}).querySelector('input').click()"
        )
    browser.settle()


def axis(browser, chart, name):
    """How pixels become values, from two labels of an axis as it is drawn."""
    (a, first), (b, last) = browser.value(
        f"(() => {{ const chart = document.querySelector('{chart} .chart');"
        f"const all = [...chart.querySelectorAll('text.{name}[data-value]')];"
        "return [all[0], all.at(-1)].map(t => "
        f"[+t.getAttribute('{name}'), +t.dataset.value]); }})()"
    )
    shift = 4 if name == "y" else 0  # a label stands a little below its line
    return lambda pixel: first + (pixel + shift - a) * (last - first) / (b - a)


def drawn_shares(browser, run, edges):
    """Heights of the outline that is drawn for a run, at the middle of every bin."""
    paths = browser.value(
        f"[...document.querySelectorAll('.energies .steps[data-run=\"{run}\"]')]"
        ".map(path => path.getAttribute('d'))"
    )
    (path,) = paths
    x, y = axis(browser, ".energies", "x"), axis(browser, ".energies", "y")
    heights = np.zeros(len(edges) - 1)
    for part in path.split("M")[1:]:
        points = [tuple(map(float, p.split())) for p in part.split("L")]
        for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
            if x1 > x0:
                assert y0 == y1
                k = np.searchsorted(edges, (x(x0) + x(x1)) / 2) - 1
                np.testing.assert_allclose([x(x0), x(x1)], edges[k : k + 2], atol=0.01)
                heights[k] = y(y0)
    return heights


def names(browser):
    return browser.value("[...document.querySelectorAll('.chip')].map(c => c.textContent)")


@pytest.mark.parametrize(("width", "edges"), [(2, EDGES), (1, FINE)])
@pytest.mark.parametrize("kind", ["gen", "gen_relaxed"])
def test_histograms_are_the_shares_of_the_energies(opened, kind, width, edges):
    pick(opened, "low", "high")
    choose(opened, "kind", kind)
    choose(opened, "width", width)
    for name, seed in (("low", 1), ("high", 2)):
        values = gen(seed)[kind]
        expected = np.histogram(values, edges)[0] / len(values)
        number = names(opened).index(name)
        np.testing.assert_allclose(drawn_shares(opened, number, edges), expected, atol=2e-3)
    assert sum(bin_counts(kind, gen(1)[kind]).values()) == 40


def test_medians_are_where_numpy_has_them(opened):
    pick(opened, "low")
    number = names(opened).index("low")
    path = opened.value(
        f"document.querySelector('.energies .median[data-run=\"{number}\"]').getAttribute('d')"
    )
    at = axis(opened, ".energies", "x")(float(re.match(r"M([\d.]+)", path).group(1)))
    assert at == pytest.approx(np.median(gen(1)["gen_relaxed"]), abs=2e-3)


def count(browser, selector):
    return browser.value(f"document.querySelectorAll({json.dumps(selector)}).length")


def test_picking_changes_what_is_drawn(opened):
    pick(opened)
    assert count(opened, ".steps") == count(opened, ".line") == 0
    pick(opened, "low", "none", "0001")
    assert count(opened, ".energies .steps") == 3
    # Of the trial: the score's two losses, the force field's two and two errors.
    assert count(opened, ".curves .line") == 6
    assert count(opened, ".structure:not([hidden])") == 3 * 4
    assert count(opened, "tr.off") == 7 - 3
    pick(opened, "score", "long", "0000")
    assert count(opened, ".curves .line") == 6 + 2 * 2
    assert count(opened, ".energies .steps") == 1
    assert "Without energies: long, score." in opened.value(
        "document.querySelector('[data-note=energies]').textContent"
    )
    choose(opened, "layout", "below")
    pick(opened, "low", "none", "high")
    assert count(opened, ".energies svg.chart") == 3
    choose(opened, "layout", "over")
    assert count(opened, ".energies svg.chart") == 1


CUT_OFF = """[...document.querySelectorAll('.energies svg.chart text')].filter(text => {
  const [own, all] = [text, text.closest('svg')].map(one => one.getBoundingClientRect());
  return own.width && (own.left < all.left - 1 || own.right > all.right + 1);
}).map(text => text.textContent)"""
"""Texts of the histograms that reach beyond the drawing."""


@contextmanager
def narrow(browser):
    """A telephone's screen."""
    size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    browser.settle()
    yield
    browser.send("Emulation.clearDeviceMetricsOverride")
    browser.settle()


def test_energies_of_different_calculators_or_zeros_are_remarked(browser, tmp_path):
    """Two evaluations by CHGNet beside one by EMT, one of them without a random search."""
    for name, target, searched in (("a", "emt", 70), ("b", "chgnet", 70), ("c", "chgnet", None)):
        settings = {"_target_": f"mine.{target}", "level": 2}
        run = evaluation(tmp_path / name, 1, calculator=settings, relaxation={"fmax": 0.1})
        run.update_summary({"rss/n": searched})
    path, _ = compare([tmp_path])
    browser.open(path, READY)
    note = "document.querySelector('[data-note=energies]').textContent"
    shown = browser.value(note)
    assert "calculators, which do not compare: emt level=2 (a); chgnet level=2 (b, c)." in shown
    assert "Relative to their own lowest" in shown
    with narrow(browser):
        assert browser.value(CUT_OFF) == []
    pick(browser, "b")
    assert "different calculators" not in browser.value(note)


def test_what_lies_outside_the_bins_is_counted(opened):
    pick(opened, "low")
    note = opened.value("document.querySelector('[data-note=energies]').textContent")
    assert "Outside the bins: low (2.5 %)." in note


def test_curves_are_the_rows(opened):
    pick(opened, "score")
    path = opened.value("document.querySelector('.curves .line').getAttribute('d')")
    points = [tuple(map(float, p.split())) for p in path[1:].split("L")]
    x = axis(opened, ".curves", "x")
    np.testing.assert_allclose([x(p[0]) for p in points], range(1, 9), atol=0.02)
    choose(opened, "scale", "linear")
    path = opened.value("document.querySelector('.curves .line').getAttribute('d')")
    points = [tuple(map(float, p.split())) for p in path[1:].split("L")]
    y = axis(opened, ".curves", "y")
    np.testing.assert_allclose([y(p[1]) for p in points], 1 / np.arange(1, 9), atol=5e-3)
    pick(opened, "long")
    path = opened.value("document.querySelector('.curves .line').getAttribute('d')")
    assert path.count("L") == POINTS - 1
    assert axis(opened, ".curves", "x")(float(path.split("L")[-1].split()[0])) == pytest.approx(
        4 * POINTS, abs=1
    )


def test_pointing_at_a_run_lets_the_others_step_back(opened):
    pick(opened, "high", "low", "none")
    chip = "[...document.querySelectorAll('.chip')].find(c => c.textContent === 'low')"
    opened.value(f"{chip}.dispatchEvent(new Event('pointerenter'))")
    clear = "[...new Set([...document.querySelectorAll('[data-run]:not(.faint)')].map(e => "
    clear += "+e.dataset.run))]"
    assert opened.value(clear) == [names(opened).index("low")]
    assert count(opened, ".faint .faint") == 0
    opened.value(f"{chip}.dispatchEvent(new Event('pointerleave'))")
    assert count(opened, ".faint") == 0


COLUMN = """(key => { const heads = [...document.querySelectorAll('.drawn thead tr:last-child th')];
const n = heads.findIndex(h => h.querySelector('button').title.split('\\n')[0] === key);
return %s; })(%s)"""


def test_the_table_sorts(opened):
    cells = "[...document.querySelectorAll('.drawn tbody tr')].map(r => r.children[n].textContent)"
    key = json.dumps("gen_relaxed/energy_median")
    opened.value(COLUMN % ("heads[n].querySelector('button').click()", key))
    reported = opened.value(COLUMN % (cells, key))
    medians = sorted(float(np.median(gen(seed)["gen_relaxed"])) for seed in (1, 2, 3, 10, 11))
    assert reported == [f"{m:.4g}" for m in medians] + ["–", "–"], "runs without it come last"
    opened.value(COLUMN % ("heads[n].querySelector('button').click()", key))
    reported = opened.value(COLUMN % (cells, key))
    assert reported == [f"{m:.4g}" for m in medians[::-1]] + ["–", "–"]
    assert opened.value(COLUMN % ("heads[n].ariaSort", key)) == "descending"
    first = opened.value("document.querySelector('.drawn tbody tr th').textContent")
    seeds = {"high": 2, "low": 1, "none": 3, "0000": 10, "0001": 11}
    assert float(np.median(gen(seeds[first])["gen_relaxed"])) == medians[-1]


def test_keys_and_the_pointer_read_values(opened):
    pick(opened, "low")
    opened.value("document.querySelector('.energies .chart').focus()")
    for _ in range(3):
        opened.key("ArrowRight")
    tip = opened.value("document.querySelector('.energies .tip').textContent")
    low, high = map(float, re.match(r"(\S+) to (\S+) eV", tip).groups())
    share = np.mean([(low <= e < high) for e in gen(1)["gen_relaxed"]])
    assert f"low{100 * share:.3g} %" in tip
    opened.value("document.querySelector('.energies .chart').blur()")
    assert opened.value("document.querySelector('.energies .tip').hidden")


def test_structures_are_grouped_by_run_until_they_are_sorted(opened):
    pick(opened, "low", "none")
    shown = "[...document.querySelectorAll('.grid > :not([hidden])')].map(e => e.tagName)"
    assert opened.value(shown) == ["H3", *4 * ["FIGURE"]] * 2
    choose(opened, "sort", "rank")
    assert opened.value(shown) == 8 * ["FIGURE"]
    choose(opened, "sort", "")
    assert opened.value(shown) == ["H3", *4 * ["FIGURE"]] * 2


def test_dark_and_narrow(opened):
    opened.dark(True)
    stroke = "getComputedStyle(document.querySelector('.chart .label')).fill"
    assert opened.value(stroke) == "rgb(226, 230, 236)"
    opened.dark(False)
    assert opened.value(stroke) == "rgb(30, 34, 40)"
    with narrow(opened):
        assert opened.value("document.documentElement.scrollWidth") <= 375, "only the table scrolls"
        assert opened.value(CUT_OFF) == []


def test_hostile_names_stay_text(browser, tmp_path):
    name = NASTY.replace("/", ":")
    evaluation(tmp_path / name, 1)
    evaluation(tmp_path / "b", 2, **{NASTY: NASTY})
    path, _ = compare([tmp_path], names=[NASTY, "b"])
    browser.errors.clear()
    browser.open(path, READY)
    assert browser.value("document.title") == "2 runs compared"
    assert names(browser) == [NASTY, "b"]
    assert count(browser, "img") == 0
    assert browser.errors == []


def test_many_runs_are_distinguished(browser, tmp_path):
    for number in range(20):
        run = evaluation(tmp_path / f"run{number:02d}", number)
        run.update_summary({"rss/n": None if number == 3 else 70})
    path, _ = compare([tmp_path])
    assert path.stat().st_size < 2_000_000
    browser.open(path, READY)
    assert count(browser, ".energies .steps") == 20
    note = browser.value("document.querySelector('[data-note=energies]').textContent")
    assert "no random search to compare with: run03." in note
    browser.value("document.querySelector('.buttons button').click()")
    browser.settle()
    looks = browser.value(
        "[...document.querySelectorAll('.steps')].map(p => p.getAttribute('stroke') + "
        "p.getAttribute('stroke-dasharray'))"
    )
    assert len(set(looks)) == len(looks) == 20

"""Claims: what is measured of which stages, and that its statistics are right."""

import json

import numpy as np
import pandas as pd
import pytest
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from scipy import stats

from experiments.harness.figures import of_experiment
from experiments.harness.generation import evaluation
from experiments.harness.generation.evaluate import SEARCH
from experiments.harness.pipeline import runner
from experiments.harness.pipeline.claims import Claim, row
from experiments.harness.pipeline.drawings import Drawing, require_stages
from experiments.harness.pipeline.experiment import read, shipped
from experiments.harness.pipeline.illustrations import illustrate
from experiments.harness.pipeline.measures import measure
from experiments.harness.pipeline.table import columns
from experiments.harness.publishing import paper
from experiments.harness.runs import statistics
from experiments.harness.runs.run_folder import RunFolder
from tests.integration.configs.test_experiments import written

EMT = {"_target_": "ase.calculators.emt.EMT"}
COMMON = {"claim": "c", "stage": "evaluate_a", "quantity": "energy"}


def test_a_share_has_wilson_s_interval():
    z, n, k = stats.norm.ppf(0.975), 24, 1
    middle = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    found = statistics.proportion(k, n)
    assert found[:3] == pytest.approx((k / n, middle - half, middle + half))


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    sample = np.random.default_rng(0).normal(size=400)
    found = statistics.bootstrapped([sample], np.mean, seed=0)
    half = 1.96 * sample.std() / 20
    assert found.value == pytest.approx(sample.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)
    assert statistics.bootstrapped([sample], np.mean, seed=0) == found


def test_trainings_are_compared_by_welch_s_t():
    a, b = np.array([1.0, 1.4, 1.2]), np.array([0.5, 0.9, 0.4])
    va, vb = a.var(ddof=1) / 3, b.var(ddof=1) / 3
    freedom = (va + vb) ** 2 / (va**2 / 2 + vb**2 / 2)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(va + vb)
    found = statistics.of_trainings(a, b)
    assert found[:3] == pytest.approx((0.6, 0.6 - half, 0.6 + half))


def test_settings_of_the_same_trainings_are_compared_by_their_differences():
    a, b = np.array([1.0, 1.4, 1.2]), np.array([0.5, 0.95, 0.72])
    differences = a - b
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    found = statistics.of_trainings(a, b, paired=True)
    middle = differences.mean()
    assert found[:3] == pytest.approx((middle, middle - half, middle + half))
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_the_energy_distance_tells_distributions_apart():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=60), rng.normal(size=60)
    found = statistics.energy_distance(a, b + 2, seed=0)

    def mean(x, y):
        return np.abs(x[:, None] - y).mean()

    squared = 2 * mean(a, b + 2) - mean(a, a) - mean(b, b)
    assert found.value == pytest.approx(np.sqrt(squared))
    assert np.isnan([found.low, found.high]).all(), "percentiles of alike samples miss it"
    assert found.p == pytest.approx(0.001)
    assert statistics.energy_distance(a, b, seed=0).p > 0.05


def finished(tmp_path, tables, calculators=None, shared=False, **more):
    """An experiment whose evaluations hold these tables, and its planned stages."""
    stages = {"score": []} if shared else {"score_a": [], "score_b": []}
    for label in ("a", "b"):
        stages |= {f"sample_{label}": ["guide=none"], f"evaluate_{label}": ["calculator=emt"]}
    folder = written(tmp_path / "mine", stages=stages, trainings=2, **more)
    prepared = runner.prepare(folder, [f"output={tmp_path}/runs"])
    for stage in prepared.stages:
        if stage.name not in tables:
            continue
        table, zero = tables[stage.name]
        run = RunFolder(stage.folder)
        run.save_config({"seed": 0, "calculator": (calculators or {}).get(stage.name, EMT)})
        table.to_csv(run.path / "structures.csv", index_label="index")
        lowest = float(table["energy"].min())
        run.update_summary({
            "gen_relaxed/energy_median": lowest, "gen_relaxed/energy_median_abs": lowest + zero,
            "gen/failed": 3,
        })  # fmt: skip
    return prepared


@pytest.fixture
def tables():
    rng = np.random.default_rng(2)
    names = [f"evaluate_{x}{s}" for x in "ab" for s in ("", "_seed1")]
    return {
        name: (
            pd.DataFrame({
                "energy": rng.normal(k, size=50), "energy_before": rng.normal(size=50),
                "valid": rng.random(50) < 0.9,
                "steps": rng.integers(5, 20, size=50), "hit": rng.random(50) < 0.2,
                "target_distance": rng.uniform(0.3, 2, size=50),
            }),
            -100.0 - k,
        )
        for k, name in enumerate(names)
    }  # fmt: skip


def test_the_training_is_the_unit_and_zeros_may_differ(tmp_path, tables):
    prepared = finished(tmp_path, tables)
    claim = Claim(
        **COMMON, beside="evaluate_b", statistic="difference of medians", expected={"above": 2}
    )
    (found,) = measure([claim], prepared.stages, 0)
    medians = [float(t["energy"].median()) + zero for t, zero in tables.values()]
    expected = statistics.of_trainings(medians[:2], medians[2:])
    assert found["here"] == pytest.approx(expected.value)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert (found["n"], found["n_beside"], found["seeds"]) == (100, 100, [0, 1])
    assert found["holds"] is (False if expected.high <= 2 else None)


def test_settings_of_shared_scores_are_paired_by_training(tmp_path, tables):
    prepared = finished(tmp_path, tables, shared=True)
    claim = Claim(**COMMON, beside="evaluate_b", statistic="difference of medians")
    (found,) = measure([claim], prepared.stages, 0)
    medians = [float(t["energy"].median()) + zero for t, zero in tables.values()]
    expected = stats.ttest_rel(medians[:2], medians[2:])
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected.confidence_interval()))
    assert found["p"] == pytest.approx(expected.pvalue)


def test_a_table_without_a_search_counts_surfaces_of_a_kind_from_their_lowest(tmp_path):
    same = ["composition=Ag1", "template.slab=ag111_p3x3"]
    stages = {
        "sample_a": same, "sample_b": [*same, "n=3"], "sample_c": ["composition=Ag2"],
        "sample_d": same,
    }  # fmt: skip
    experiment = read(written(tmp_path / "mine", stages=stages))
    rows = {"a": (-10.0, -9.0), "b": (-12.0, -9.5), "c": (-50.0, -49.0), "d": (-11.0, -8.0)}
    summary = {
        f"{label}/gen_relaxed/{key}": value
        for label, (low, median) in rows.items()
        for key, value in {
            "energy_min": 0.0, "energy_median": median - low, "energy_median_abs": median,
        }.items()
    } | {"d/rss/n": 4}  # fmt: skip
    found = columns(experiment, summary)
    medians = {label: column["gen_relaxed/energy_median"] for label, column in found.items()}
    assert medians == {"a": 3.0, "b": 2.5, "c": 1.0, "d": 3.0}
    assert found["a"]["gen_relaxed/energy_min"] == 2.0


def test_shares_count_what_was_lost_and_values_are_of_the_summary(tmp_path, tables):
    tables["evaluate_a"][0].loc[:9, "target_distance"] = np.nan
    prepared = finished(tmp_path, tables)
    near = Claim(
        **COMMON | {"quantity": "target_distance"}, statistic="share", at_most=0.6,
        expected={"above": 0},
    )  # fmt: skip
    hits = Claim(**COMMON | {"quantity": "hit"}, statistic="share", expected={"below": 0.05})
    failed = Claim(**COMMON | {"quantity": "gen/failed"}, statistic="value")
    found = measure([near, hits, failed], prepared.stages, 0)
    both = pd.concat([tables[n][0] for n in ("evaluate_a", "evaluate_a_seed1")])
    for one, met in zip(found, [both["target_distance"] <= 0.6, both["hit"]], strict=False):
        share = statistics.proportion(int(met.sum()), 100)
        assert (one["here"], one["low"], one["high"]) == pytest.approx(share[:3])
    assert [one["holds"] for one in found] == [True, False, None]
    assert (found[2]["here"], found[2]["n"]) == (3, 2)


def test_structures_from_the_same_noise_are_compared_one_by_one(tmp_path, tables):
    for name in ("evaluate_b", "evaluate_b_seed1"):
        other = tables[name.replace("_b", "_a")][0]
        tables[name][0]["energy_before"] = other["energy_before"] - 1.0
        tables[name] = (tables[name][0].drop(index=[3, 7]), -100.0)
    for name in ("evaluate_a", "evaluate_a_seed1"):
        tables[name] = (tables[name][0], -100.0)
    prepared = finished(tmp_path, tables)
    claim = Claim(
        **COMMON | {"quantity": "energy_before"}, beside="evaluate_b", paired=True,
        statistic="difference of means",
    )  # fmt: skip
    (found,) = measure([claim], prepared.stages, 0)
    assert found["n"] == 96
    assert found["here"] == pytest.approx(1)
    assert found["high"] - found["low"] < 1e-6


def test_random_search_is_taken_from_beside_the_evaluation(tmp_path, tables):
    prepared = finished(tmp_path, tables)
    claim = Claim(
        **COMMON | {"quantity": "steps"}, beside="random_search", statistic="ratio of means"
    )
    (missing,) = measure([claim], prepared.stages, 0)
    assert np.isnan(missing["here"])
    assert missing["holds"] is None
    search = pd.DataFrame({"energy": [0.0, 1.0], "steps": [40, 60]})
    home = next(s.folder for s in prepared.stages if s.name == "evaluate_a")
    search.to_csv(home / "random_search.csv", index_label="index")
    (found,) = measure([claim], prepared.stages, 0)
    steps = np.concatenate([tables[n][0]["steps"] for n in ("evaluate_a", "evaluate_a_seed1")])
    assert found["here"] == pytest.approx(steps.mean() / 50)


def test_energies_of_two_calculators_are_not_compared(tmp_path, tables):
    field = {"evaluate_b": {"_target_": "x", "path": "p", "digest": "sha256:1"}}
    prepared = finished(tmp_path, tables, field)
    claim = Claim(**COMMON, beside="evaluate_b", statistic="difference of means")
    with pytest.raises(ValueError, match="energies of different calculators"):
        measure([claim], prepared.stages, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stage": "evaluate_x"}, "there is no stage evaluate_x"),
        ({"quantity": "enegry"}, "evaluate_a has no column enegry, only formula, finite, valid"),
        ({"at": {"sigma": 1}}, "evaluate_a has no column sigma"),
        ({"stage": "score_a"}, "stage score_a has no table"),
        ({"beside": "evaluate_b"}, "median has no beside"),
        ({"statistic": "energy distance"}, "energy distance needs beside"),
        ({"statistic": "mode"}, "claims"),
    ],
)
def test_a_claim_that_cannot_be_measured_is_refused_before_any_stage(tmp_path, change, reason):
    claim = COMMON | {"statistic": "median"} | change
    with pytest.raises(ValueError, match=reason):
        finished(tmp_path, {}, claims=[claim])


def test_what_failed_to_relax_has_no_steps():
    done = fcc111("Pt", (2, 2, 2), vacuum=6.0)
    done.set_constraint(FixAtoms(range(4)))
    done.info.update(relax_steps=7)
    done.calc = SinglePointCalculator(done, energy=-1.0)
    found = evaluation.table([done, done], [0.0, 0.0], [done, None], None, None, 0.6)
    assert found["steps"].dropna().tolist() == [7]
    assert found["energy"].dropna().tolist() == [-1.0]


def test_a_number_that_a_stage_could_not_give_is_none(tmp_path, tables):
    prepared = finished(tmp_path, tables)
    for name in ("evaluate_a", "evaluate_a_seed1"):
        folder = next(stage.folder for stage in prepared.stages if stage.name == name)
        RunFolder(folder).update_summary({"gen/failed": float("nan")})  # null in the file
    claim = Claim(claim="c", stage="evaluate_a", quantity="gen/failed", statistic="value")
    (found,) = measure([claim], prepared.stages, 0)
    assert np.isnan(found["here"])
    assert found["holds"] is None
    claim = Claim(**COMMON, statistic="median", at={"sigma": 1})
    with pytest.raises(ValueError, match="there is no column sigma, only energy"):
        measure([claim], prepared.stages, 0)


def test_trainings_count_from_the_seed_of_their_stage(tmp_path):
    stages = {"score_a": ["seed=1"], "score_b": []}
    planned = runner.prepare(written(tmp_path / "x", stages=stages, trainings=3)).stages
    seeds = {stage.name: stage.config.seed for stage in planned}
    assert [seeds[f"score_a{s}"] for s in ("", "_seed1", "_seed2")] == [1, 2, 3]
    assert [seeds[f"score_b{s}"] for s in ("", "_seed1", "_seed2")] == [0, 1, 2]


def test_trainings_repeat_the_stages_with_other_seeds(tmp_path):
    stages = {
        "forcefield": [], "score_a": ["train.steps=5"], "sample_a": [], "evaluate_a": [],
        "sample_b": ["score={home}/train/score_a{training}", "name=b{training}"],
    }  # fmt: skip
    folder = written(tmp_path / "mine", stages=stages, trainings=3, seed=4, small={"score_a": []})
    planned = {s.name: s for s in runner.prepare(folder).stages}
    assert len(planned) == 1 + 3 * 4
    score, sample = planned["score_a_seed2"], planned["sample_a_seed2"]
    assert (score.config.seed, score.config.train.steps, sample.config.seed) == (6, 5, 6)
    assert sample.config.score == "runs/mine/train/score_a_seed2"
    assert planned["sample_b_seed1"].config.score == "runs/mine/train/score_a_seed1"
    assert planned["evaluate_a_seed1"].config.sample == "runs/mine/sample/a_seed1"
    assert len(runner.prepare(folder, ["small=true"]).stages) == 5
    shared = {"score": [], "sample_a": ["guide=none"]}
    planned = {
        s.name: s
        for s in runner.prepare(written(tmp_path / "x", stages=shared, trainings=2)).stages
    }
    assert planned["sample_a_seed1"].config.score == "runs/x/train/score_seed1"
    assert len(runner.prepare(folder, ["trainings=2", "score_a.train.steps=9"]).stages) == 9


def test_paper_json_holds_the_claims_of_published_runs(tmp_path):
    claim = {
        "claim": "lower", "paper": "yes", "here": -0.2, "low": -0.3, "high": -0.1, "n": 960,
        "expected": {"below": 0}, "n_beside": None, "seeds": [0], "p": None, "unit": "eV",
        "statistic": "median", "holds": True,
    }  # fmt: skip
    own = claim | {"claim": "higher", "paper": None}
    home = tmp_path / "experiments/fig3"
    home.mkdir(parents=True)
    runs = {
        "full": {"command": "surfdiff run fig3", "claims": [claim, own], "calculator": "emt"},
        "small": {"command": "surfdiff run fig3 small=true", "claims": [claim]},
        "old": {"command": "surfdiff run fig3 name=old"},
    }
    (home / "results.json").write_text(json.dumps(runs))
    found = paper.collected(tmp_path)
    assert json.loads(paper.text(found)) == found
    about = {"experiment": "fig3", "run": "full", "command": "surfdiff run fig3"}
    about |= {"calculator": "emt"}
    assert found == [claim | about, own | about]
    one = found[0]
    of_the_paper = paper.of_the_paper(found)
    assert "| lower | yes | -0.2 eV | -0.3 to -0.1 | 960 | 0 | yes | fig3 | emt |" in of_the_paper
    assert "higher" not in of_the_paper
    assert paper.of_experiments(found).splitlines() == [
        "`surfdiff run fig3` (energies by emt)",
        "",
        "| claim | here | 95 % interval | n | seeds | holds |",
        "| --- | --- | --- | --- | --- | --- |",
        "| higher | -0.2 eV | -0.3 to -0.1 | 960 | 0 | yes |",
    ]
    assert row(one)[-1] == "yes"
    totals = {"here": -145.598, "low": -145.612, "high": -144.5}
    assert row(one | totals)[2:4] == ["-145.60 eV", "-145.61 to -144.50"]
    assert "published yet" in paper.of_the_paper([])
    assert "published yet" in paper.of_experiments([])


def test_the_experiments_of_the_paper_claim_at_least_ten_things():
    claims = [(name, claim.claim) for name in shipped() for claim in read(name).claims]
    assert len(claims) >= 10
    assert len(set(claims)) == len(claims)


def labelled(energies):
    """A slab with each of these energies."""
    slab = fcc111("Ag", (1, 1, 1), vacuum=8.0, periodic=True)
    frames = [slab.copy() for _ in energies]
    for index, (atoms, energy) in enumerate(zip(frames, energies, strict=True)):
        atoms.info["index"] = index
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return frames


def test_a_figure_counts_all_its_energies_from_one_zero(tmp_path, tables):
    prepared = finished(tmp_path, tables)
    drawing = Drawing(
        name="energies", kind="energies", caption="c", stages=["evaluate_a", "evaluate_b"]
    )
    for stage in prepared.stages:
        if stage.name in ("evaluate_a", "evaluate_b"):
            table, zero = tables[stage.name]
            RunFolder(stage.folder).append_structures("relaxed", labelled(table["energy"] + zero))
    illustrate([drawing], prepared.stages, tmp_path, 0)
    found = pd.read_csv(tmp_path / "figures/energies.csv").groupby("series")["energy"]
    zero = tables["evaluate_a"][1]
    for label in "ab":
        expected = [tables[n][0]["energy"] + tables[n][1] for n in tables if f"_{label}" in n]
        values = pd.concat(expected) - zero
        assert found.count()[label] == 100
        assert found.median()[label] == pytest.approx(values.median(), abs=2e-3)
    with pytest.raises(ValueError, match="energies are of evaluate stages, not of score_a"):
        require_stages([drawing.changed({"stages": ["score_a"]})], ["score_a"])


def test_a_figure_of_the_lowest_draws_each_surface_once(tmp_path, monkeypatch):
    fcc111("Ag", (1, 1, 1), vacuum=8.0).write(tmp_path / "mine.extxyz")
    stages = {"label_all": [f"structures={tmp_path}/mine.extxyz", "calculator=emt"]}
    home = written(tmp_path / "mine", stages=stages)
    (stage,) = runner.prepare(home, [f"output={tmp_path}/runs"]).stages
    frames = labelled([-1.0, -3.0, -2.9, -2.0])
    for atoms, height in zip(frames, [1.0, 2.0, 2.0, 3.0], strict=True):  # two are one surface
        atoms.set_constraint(FixAtoms([0]))
        energy, atoms.calc = atoms.get_potential_energy(), None
        atoms.append("O")
        atoms.positions[1] = atoms.positions[0] + [0, 0, height]
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    RunFolder(stage.folder).append_structures("labelled", frames)
    drawn = {}
    draw = of_experiment.energies_with_structures
    monkeypatch.setattr(
        of_experiment, "energies_with_structures",
        lambda energies, examples, zero: drawn.update(examples) or draw(energies, examples, zero),
    )  # fmt: skip
    drawing = Drawing(name="lowest", kind="lowest", caption="c", stages=["label_all"])
    illustrate([drawing], [stage], tmp_path, 0)
    assert [energy for _, energy in drawn.values()] == pytest.approx([0.0, 1.0, 2.0])
    table = pd.read_csv(tmp_path / "figures/lowest.csv")
    assert table["index"].tolist() == [1, 2, 3, 0]
    assert table["energy"].tolist() == pytest.approx([0.0, 0.1, 1.0, 2.0])


def beside_a_search(prepared):
    for stage in prepared.stages:
        if stage.kind == "evaluate":
            (stage.folder / SEARCH).write_text("index,energy\n0,0.1\n")


def test_a_figure_of_settings_has_each_training_with_its_interval(tmp_path, tables):
    prepared = finished(tmp_path, tables)
    beside_a_search(prepared)
    drawing = Drawing(
        name="settings", kind="settings", caption="c", stages=["evaluate_b", "evaluate_a"]
    )
    illustrate([drawing], prepared.stages, tmp_path, 0)
    found = pd.read_csv(tmp_path / "figures/settings.csv").set_index(["stage", "quantity"])
    assert list(found["setting"])[::8] == ["b", "a"]  # two trainings, four quantities
    zero = tables["evaluate_b"][1]
    for stage, (table, own_zero) in tables.items():
        rows = found.loc[stage]
        for quantity, column in (("as generated", "energy_before"), ("relaxed", "energy")):
            median, low, high = statistics.bootstrapped([table[column]], np.median, 0)[:3]
            expected = np.array([median, low, high]) + own_zero - zero
            values = rows.loc[quantity, ["value", "low", "high"]].to_numpy(float)
            np.testing.assert_allclose(values, expected, atol=2e-3)
        for quantity, column in (("valid", "valid"), ("lowest minimum", "hit")):
            values = rows.loc[quantity, ["value", "low", "high"]].to_numpy(float)
            share = statistics.proportion(int(table[column].sum()), 50)[:3]
            np.testing.assert_allclose(values, share, rtol=1e-3)


def test_a_figure_of_settings_leaves_out_what_tells_nothing(tmp_path, tables):
    for table, _ in tables.values():
        table["energy_before"], table["valid"] = table["energy"], True
    prepared = finished(tmp_path, tables)
    drawing = Drawing(name="settings", kind="settings", caption="c", stages=["evaluate_a"])
    illustrate([drawing], prepared.stages, tmp_path, 0)
    quantities = pd.read_csv(tmp_path / "figures/settings.csv")["quantity"]
    assert set(quantities) == {"relaxed"}  # no random search, so no lowest minimum of it
    beside_a_search(prepared)
    illustrate([drawing], prepared.stages, tmp_path, 0)
    quantities = pd.read_csv(tmp_path / "figures/settings.csv")["quantity"]
    assert set(quantities) == {"relaxed", "lowest minimum"}

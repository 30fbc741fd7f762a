"""A quickstart run becomes a picture, a record and text that agree."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.image import imread

from experiments.harness.pipeline import runner
from experiments.harness.publishing import pages
from experiments.harness.publishing import publish as publishing
from experiments.harness.runs import markdown
from experiments.harness.runs.run_folder import RunFolder
from sdedata import shipped
from tests.docs.documents import ROOT, empty_site

SUMMARY = {
    "gen/n": 4, "gen/energy_median": 1.234, "gen_relaxed/energy_median": 0.5, "rss/n": 70,
    "rss/energy_median": 0.907, "gen/frac_valid": 0.75, "seconds/all": 321.4, "gen/hit_rate": 0.25,
    "gen/frac_below_reference": 0.0, "gen/composition": "Ag6O3",
}  # fmt: skip


@pytest.fixture
def site(tmp_path):
    """A root where no quickstart has been published yet."""
    site = empty_site(tmp_path)
    (site / RECORD).unlink()
    return site


RECORD = f"experiments/{pages.RESULTS}/results.json"


def config_of(overrides: tuple[str, ...]) -> dict:
    """What `surfdiff quickstart` stores of its experiment."""
    prepared = runner.prepare(pages.RESULTS, ["name=ag6o3", *overrides], "quickstart")
    described = prepared.experiment.model_dump(exclude={"small"}) | prepared.options.model_dump()
    return {"experiment": prepared.source, **described}


def finished(home: Path, *overrides: str) -> Path:
    """A quickstart folder whose structures are minima of the shipped random search."""
    rss = shipped.load("rss_ag6o3_p3x3")
    run = RunFolder(home)
    run.save_config(config_of(overrides))
    run.save_environment()
    run.update_summary(SUMMARY)
    relaxed = [rss.atoms(i) for i in (5, int(np.argmin(rss.energy)), 7)]
    before = []
    for atoms in relaxed:
        atoms.info["composition"] = "Ag6O3"
        start = atoms.copy()
        energy = atoms.get_potential_energy() + 0.4
        start.calc = SinglePointCalculator(start, energy=energy, forces=0 * atoms.positions)
        before.append(start)
    evaluation = RunFolder(home / "evaluate/ag6o3")
    evaluation.save_config({key: rss.meta[key] for key in ("calculator", "relaxation")})
    evaluation.save_structures("evaluated", before)
    evaluation.save_structures("relaxed", relaxed)
    source = RunFolder(home / "sample/Ag6O3")
    source.save_config({"seed": 0})
    path = [atoms.copy() for atoms in relaxed]
    for k, atoms in enumerate(path):
        atoms.info["t"] = 1 - k / len(path)
    source.save_structures("path", path)
    return home


def publish(site: Path, home: Path) -> dict:
    file = publishing.publish(home, site)
    for document, text in pages.documents(site).items():
        document.write_text(text)
    return json.loads(file.read_text())


def test_table_json_and_picture_come_from_the_run(site):
    results = publish(site, finished(site / "runs/quickstart/ag6o3"))
    assert results["ag6o3"]["summary"] == SUMMARY
    assert results["ag6o3"]["command"] == "make quickstart"
    assert results["ag6o3"]["seed"] == 0
    assert results["ag6o3"]["calculator"] == "corrected silver_oxide_pbe"
    readme = (site / "README.md").read_text()
    assert readme.startswith("# Title\n<!-- headline -->\nIn 321 seconds")
    assert readme.endswith("<!-- /claims -->\nend\n")
    plain = " ".join(readme.split())
    assert "generates 4 structures of Ag6O3 in p(3x3), 3 of them valid" in plain
    assert "0.50 eV, against 0.91 eV of 70 minima" in plain
    text = (site / "docs/results.md").read_text()
    rows = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines() if "|" in line)
    assert rows["structures"] == "70 | 4"
    assert rows["median energy, relaxed (eV)"] == "0.91 | 0.50"
    assert rows["valid as generated"] == "– | 3 of 4"
    assert rows["relaxed to the lowest minimum of random search"] == "– | 1 of 4"
    picture = imread(site / "docs/overview.png")
    assert picture.shape[1] > 1000
    # red oxygen in the upper half, the histograms' first colour in the lower
    red, green, blue = np.moveaxis(picture[..., :3], -1, 0)
    half = len(picture) // 2
    assert ((red > 0.8) & (green < 0.2) & (blue < 0.2))[:half].sum() > 200
    assert ((red < 0.05) & (blue > 0.6))[half:].sum() > 200


def test_a_second_run_is_a_second_column_and_the_picture_stays(site):
    publish(site, finished(site / "runs/quickstart/ag6o3"))
    picture = (site / "docs/overview.png").read_bytes()
    changes = (
        "name=vp", "seed=3", "score.train.steps=4000", "score.sde=vp", "sample.sampler=paper",
    )  # fmt: skip
    results = publish(site, finished(site / "runs/quickstart/vp", *changes))
    assert list(results) == ["ag6o3", "vp"]
    assert (site / "docs/overview.png").read_bytes() == picture
    assert "| structures | 70 | 4 | 4 |" in (site / "docs/results.md").read_text()
    # the command that it names makes the same config again
    words = shlex.split(results["vp"]["command"])
    assert words[:2] == ["surfdiff", "quickstart"]
    assert config_of(tuple(words[2:])) == config_of(changes)
    for document, text in pages.documents(site).items():
        assert document.read_text() == text


def test_what_is_no_finished_run_is_refused(site):
    home = site / "runs/quickstart/ag6o3"
    with pytest.raises(ValueError, match="is not a run folder"):
        publish(site, home)
    RunFolder(home).save_config({"seed": 0})
    with pytest.raises(ValueError, match="not the run of an experiment"):
        publish(site, home)
    RunFolder(site / "unfinished").save_config({"experiment": pages.RESULTS})
    with pytest.raises(ValueError, match="not a finished run"):
        publish(site, site / "unfinished")
    finished(site / "second")
    (site / "second/sample/Ag6O3/structures/path.extxyz").unlink()
    with pytest.raises(ValueError, match="no finished evaluation"):
        publish(site, site / "second")
    assert "old" in (site / "README.md").read_text()
    assert not (site / RECORD).exists()
    with pytest.raises(ValueError, match="<!-- results -->"):
        markdown.fill("no markers", "results", "a table")
    ended = subprocess.run(
        [sys.executable, "-m", "experiments", "publish", str(site / "nowhere")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("publish: ")
    assert "Traceback" not in ended.stderr

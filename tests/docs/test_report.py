"""A quickstart run becomes a picture, a JSON file and a table that agree."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.image import imread

from experiments.harness.config import compose
from experiments.harness.publishing import publish as report
from experiments.harness.runs.run_folder import RunFolder
from sdedata import shipped

README = "# Title\n<!-- results -->\nold\n<!-- /results -->\nend\n"
SUMMARY = {
    "gen/n": 4, "gen/energy_median": 1.234, "gen_relaxed/energy_median": 0.5, "rss/n": 70,
    "rss/energy_median": 0.907, "gen/frac_valid": 0.75, "seconds/all": 321.4, "gen/hit_rate": None,
}  # fmt: skip


@pytest.fixture
def site(tmp_path):
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def finished(home: Path, *overrides: str) -> Path:
    """A quickstart folder whose structures are minima of the shipped random search."""
    rss = shipped.load("rss_ag6o3_p3x3")
    run = RunFolder(home)
    run.save_config(compose.load("quickstart", overrides).plain())
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
    source.save_structures("path", relaxed)
    return home


def publish(site: Path, home: Path) -> dict:
    report.publish(home, site / "docs", site / "README.md")
    return json.loads((site / "docs/results.json").read_text())


def test_table_json_and_picture_come_from_the_run(site):
    results = publish(site, finished(site / "runs/quickstart/ag6o3"))
    assert results["ag6o3"]["summary"] == SUMMARY
    assert results["ag6o3"]["command"] == "make quickstart"
    assert results["ag6o3"]["seed"] == 0
    text = (site / "README.md").read_text()
    assert text.startswith("# Title\n<!-- results -->\n|")
    assert text.endswith("<!-- /results -->\nend\n")
    rows = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines() if "|" in line)
    assert rows["structures"] == "70 | 4"
    assert rows["median energy, relaxed (eV)"] == "0.91 | 0.50"
    assert rows["valid as generated"] == "– | 75%"
    assert rows["ends in the lowest of random search"] == "– | –"
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
    change = 'score=["train.steps=4000","sde=vp"]'
    results = publish(site, finished(site / "runs/quickstart/vp", "name=vp", "seed=3", change))
    assert list(results) == ["ag6o3", "vp"]
    assert (site / "docs/overview.png").read_bytes() == picture
    assert "| structures | 70 | 4 | 4 |" in (site / "README.md").read_text()
    # the command that it names makes the same config again
    words = shlex.split(results["vp"]["command"])
    assert words[:3] == ["python", "-m", "experiments.harness.pipeline.quickstart"]
    assert compose.load("quickstart", words[3:]) == compose.load(
        "quickstart", ["name=vp", "seed=3", change]
    )
    text = (site / "README.md").read_text()
    assert report.fill(text, "results", report.results_table(results)) == text


def test_what_is_no_finished_run_is_refused(site):
    home = site / "runs/quickstart/ag6o3"
    with pytest.raises(ValueError, match="is not a run folder"):
        publish(site, home)
    RunFolder(home).save_config({"seed": 0})
    with pytest.raises(ValueError, match="not a finished quickstart run"):
        publish(site, home)
    finished(site / "second")
    (site / "second/sample/Ag6O3/structures/path.extxyz").unlink()
    with pytest.raises(ValueError, match="no finished evaluation"):
        publish(site, site / "second")
    assert (site / "README.md").read_text() == README
    assert not (site / "docs/results.json").exists()
    with pytest.raises(ValueError, match="<!-- results -->"):
        report.fill("no markers", "results", "a table")
    ended = subprocess.run(
        [sys.executable, "-m", "experiments.harness.publishing.publish", str(site / "nowhere")],
        cwd=report.ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("report: ")
    assert "Traceback" not in ended.stderr

"""The page of an evaluation: its numbers are those of the summary, and its zero is named."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from experiments.harness.figures.evaluation_page import Evaluated, write_evaluation
from experiments.harness.generation.summary import relative_energies
from experiments.harness.runs.energies import energy_statistics
from experiments.harness.runs.metrics import metric_title
from sdedata.adsorption import is_adsorbed
from sdedata.frozen import frozen_mask
from tests.integration.harness.test_page import NASTY, READY, Reader, surface

ENERGIES = [-80.6, -81.0, -80.9, -80.2, -79.0]
SEARCH = [-81.2, -80.0, -79.5]


class Search:
    """As much of a set of random search as the zero is taken from."""

    energy = np.array(SEARCH)


def evaluated(compared: bool, **more) -> Evaluated:
    """Six generated, five relaxed, two of them the same surface."""
    generated = [surface(k, e + 1.5) for k, e in enumerate(ENERGIES)]
    relaxed = [surface(k, e) for k, e in zip((1, 2, 2, 7, 8), ENERGIES, strict=True)]
    for index, atoms in enumerate(relaxed):
        atoms.info |= {"index": index, "relax_steps": 7}
    energies = relative_energies(generated, relaxed, Search() if compared else None)
    metrics = {
        "gen/n": 6,
        "gen/frac_valid": 4 / 6,
        "gen/frac_unique": 4 / 6,
        "gen/failed": 1,
        "gen/composition": "AgO2",
        "gen_relaxed/energy_min_abs": min(ENERGIES),
        **energy_statistics("gen", energies["gen"]),
        **energy_statistics("gen_relaxed", energies["gen_relaxed"]),
    }
    if compared:
        metrics |= {"rss/n": 3, "rss/hit_rate": 1 / 2, "rss/energy_median": 1.2}
        metrics |= {"gen/hit_rate": 2 / 6}
    path = [surface(k) for k in range(3)]
    for atoms, t in zip(path, (1.0, 0.5, 0.0), strict=True):
        atoms.info["t"] = t
    settings = {
        "calculator": {"_target_": "ase.calculators.emt.EMT"},
        "sampled": {"template": {"slab": "ag111"}},
        **more,
    }
    adsorbed = [is_adsorbed(atoms) for atoms in relaxed]
    return Evaluated(metrics, energies, relaxed, adsorbed, path, settings)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page with and without random search: what it shows, its file, its text."""
    home = tmp_path_factory.mktemp("pages")
    found = {}
    for compared in (True, False):
        run = evaluated(compared, relaxation={"fmax": 0.1, "note": []})
        path = write_evaluation(home / f"{compared}.html", run)
        found[compared] = run, path, path.read_text(encoding="utf-8")
    return found


def tables(text: str) -> dict[str, str]:
    """The rows of all tables, by name."""
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', text)
    return {html.unescape(name): value for name, value in rows}


@pytest.mark.parametrize("compared", [True, False])
def test_the_four_numbers_are_those_of_the_summary(pages, compared):
    run, _, text = pages[compared]
    numbers = re.findall(r"<dd>(.*?)</dd>", text)
    median = float(np.median(ENERGIES)) - (min(SEARCH) if compared else min(ENERGIES))
    assert run.metrics["gen_relaxed/energy_median"] == pytest.approx(median)
    expected = [f"{median:.2f} eV", "0.20 eV", "4 of 6", "2 of 6"] if compared else [
        f"{median:.2f} eV", "−81.00 eV", "4 of 6", "4 of 6"
    ]  # fmt: skip
    assert numbers == expected
    assert "random search itself: 1 of its other 2" in text or not compared


@pytest.mark.parametrize("compared", [True, False])
def test_the_zero_is_what_energies_were_measured_from(pages, compared):
    shown = Reader(pages[compared][2]).text
    assert ("lowest of random search" in shown) == compared
    assert ("lowest of this run" in shown) != compared


def test_the_first_sentence_counts_and_names(pages):
    assert "off the surface" not in pages[True][2]
    (sentence,) = re.findall(r'<p class="sentence">(.*?)</p>', pages[True][2])
    for fact in ("6 surfaces", "AgO₂ on ag111", "EMT", "1 of them failed", "0.20 eV above", "of 3"):
        assert fact in sentence
    assert sentence.count(".") - len(re.findall(r"\d\.\d", sentence)) == 1, "one sentence"


def test_the_lowest_distinct_structures_are_shown_and_all_can_be_turned(pages):
    page = Reader(pages[True][2])
    alts = [image["alt"] for image in page.named("img")]
    shown = [alt.split(",")[0] for alt in alts if alt.endswith("from above") and "eV" in alt]
    assert shown == ["+0.20 eV", "+0.60 eV", "+1.00 eV", "+2.20 eV"], "0.30 is the same as 0.20"
    assert [alt for alt in alts if alt.startswith("t =")][::2] == [
        f"t = {t}, from above" for t in ("1", "0.5", "0")
    ]
    data = json.loads(page.scripts[0])
    assert [one["facts"]["index"] for one in data["structures"]] == [1, 2, 0, 3, 4]
    energies = [one["facts"]["energy (eV)"] for one in data["structures"]]
    np.testing.assert_allclose(energies, [0.2, 0.3, 0.6, 1.0, 2.2], atol=1e-9)


def test_what_left_the_surface_is_counted_and_not_among_the_lowest(tmp_path):
    run = evaluated(True)
    lowest = run.relaxed[run.order[0]]
    lowest.positions[~frozen_mask(lowest), 2] += 3.0
    run = replace(run, adsorbed=[is_adsorbed(atoms) for atoms in run.relaxed])
    page = Reader(write_evaluation(tmp_path / "r.html", run).read_text(encoding="utf-8"))
    shown = [i["alt"].split(",")[0] for i in page.named("img") if i["alt"].endswith("from above")]
    assert shown[:4] == ["+0.30 eV", "+0.60 eV", "+1.00 eV", "+2.20 eV"]
    assert "1 of them off the surface" in page.text
    data = json.loads(page.scripts[0])
    assert len(data["structures"]) == 5, "it can be looked at all the same"


def test_everything_but_the_beginning_is_folded(pages):
    _, _, text = pages[True]
    start = text.index("<details")
    assert text.index("<canvas") > start
    assert text.index("<table") > start
    assert text.index('alt="+0.20 eV, from the side"') < start
    assert "<details open" not in text


def test_tables_hold_every_metric_and_setting(pages):
    run, _, text = pages[True]
    rows = tables(text)
    assert {metric_title(name) for name in run.metrics} <= set(rows)
    assert rows[metric_title("gen/hit_rate")] == "2 of 6"
    lowest = rows["Lowest energy, generated (eV above the reference minimum)"]
    assert float(lowest) == pytest.approx(run.metrics["gen/energy_min"], abs=1e-3)
    assert (rows["relaxation.fmax"], rows["relaxation.note"]) == ("0.100", "–")
    assert rows["sampled.template.slab"] == "ag111"


def test_nothing_relaxed_still_gives_a_page(tmp_path):
    energies = {"gen": [], "gen_relaxed": [], "rss": [], "zero": 0.0}
    metrics = {"gen/n": 3, "gen/frac_valid": 0.0, "gen/frac_unique": 0.0}
    metrics |= energy_statistics("gen_relaxed", [])
    run = Evaluated(metrics, energies, [], [], [], {})
    page = Reader(write_evaluation(tmp_path / "r.html", run).read_text(encoding="utf-8"))
    assert "none could be relaxed" in page.text
    assert "nan" not in page.text


def test_names_cannot_break_out(tmp_path):
    run = evaluated(True, note=NASTY, sampled={"template": {"slab": NASTY}})
    run.metrics["gen/composition"] = NASTY
    run = replace(run, path=[])
    page = Reader(write_evaluation(tmp_path / "r.html", run).read_text(encoding="utf-8"))
    assert len(page.scripts) == 2
    assert all(image["src"].startswith("data:") for image in page.named("img"))


@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_fits_the_window_and_loads_nothing(pages, browser, width):
    page = pages[True][1]
    browser.errors.clear()
    browser.requests.clear()
    browser.send(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=900, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    browser.open(page, READY)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    images = "[...document.querySelectorAll('.cards img')].slice(0, 8)"
    widths = browser.value(f"{images}.map(i => i.getBoundingClientRect().width)")
    assert max(widths) - min(widths) < 1, "one scale"
    share = browser.value("document.querySelector('.full img').getBoundingClientRect().width")
    assert share > 0.85 * width, "the histogram takes the full width"
    browser.value("[...document.querySelectorAll('details')].forEach(d => { d.open = true; })")
    browser.settle()
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.querySelector('canvas').width") > 100, "drawn once unfolded"

"""The page holds everything, nothing that is not in the data, and its structures can be turned."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from experiments.harness.figures.page import MOST, Figures, Gallery, Table, Text, write_page
from experiments.harness.figures.plots import energy_histogram

NASTY = '</script><script>document.title="broken"</script><img src=x onerror="document.title=1">&'


def surface(seed: int, energy: float | None = None) -> Atoms:
    atoms = fcc111("Ag", (2, 3, 2), a=4.15, vacuum=6)
    atoms.pbc = (True, True, False)
    atoms.info = {"index": seed, "seed": f"{seed}-0"}
    top = atoms.positions[:, 2].max()
    rng = np.random.default_rng(seed)
    new = rng.random((3, 3)) @ np.diag([5.8, 7.5, 1.0]) + [0, 0, top + 1.8]
    atoms += Atoms("AgO2", new)
    atoms.set_constraint(FixAtoms(range(12)))
    if energy is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


@pytest.fixture
def page(tmp_path):
    energies = [0.5, 0.1, 0.3, 0.2]
    return write_page(
        tmp_path / "page.html",
        "Surfaces",
        Text("About", "What this is."),
        Table("Summary", {"gen/n": 4, "gen/energy_median": 0.25, "gen/hit_rate": math.nan}),
        Figures("Figures", {"Energies": energy_histogram({"RSS": energies})}),
        Gallery("Structures", [surface(n, energy) for n, energy in enumerate(energies)]),
        subtitle="a test",
    )


class Reader(HTMLParser):
    """Checks that tags are closed in order; collects them, and what scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.text += data

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_everything_is_in_the_file(page):
    text = page.read_text(encoding="utf-8")
    reader = Reader(text)
    assert reader.named("link") == []
    for attributes in reader.named("img") + reader.named("script"):
        assert attributes.get("src", "data:").startswith("data:")
    assert not re.search(r"https?://|@import|url\(", text)
    policy = next(m["content"] for m in reader.named("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    digest = base64.b64encode(hashlib.sha256(reader.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy, "only our script may run"


def test_tables_and_figures(page):
    reader = Reader(page.read_text(encoding="utf-8"))
    for phrase in ("Surfaces", "a test", "What this is.", "gen/n", "0.250", "Energies"):
        assert phrase in reader.text
    assert "nan" not in reader.text
    (image,) = reader.named("img")
    assert image["alt"] == "Energies"
    kind, data = image["src"].split(";base64,")
    content = base64.b64decode(data)
    assert b"<svg" in content if "svg" in kind else content.startswith(b"\x89PNG")


def test_structures_are_embedded_exactly(page):
    reader = Reader(page.read_text(encoding="utf-8"))
    data = json.loads(reader.scripts[0])
    assert data["elements"]["8"]["symbol"] == "O"
    assert [one["facts"]["energy"] for one in data["structures"]] == [0.5, 0.1, 0.3, 0.2]
    assert [one["facts"]["seed"] for one in data["structures"]] == ["0-0", "1-0", "2-0", "3-0"]
    for seed, one in enumerate(data["structures"]):
        atoms = surface(seed)
        assert one["numbers"] == atoms.numbers.tolist()
        assert one["fixed"] == [1] * 12 + [0] * 3
        np.testing.assert_allclose(one["cell"], atoms.cell, atol=1e-4)
        # Wrapping moves atoms by whole in-plane cell vectors only.
        moved = np.linalg.solve(atoms.cell.T, (one["positions"] - atoms.positions).T).T
        np.testing.assert_allclose(moved, np.rint(moved), atol=1e-3)
        assert np.abs(moved[:, 2]).max() < 1e-3
        assert len(one["edges"]) == 12
        lengths = [math.dist(*edge) for edge in one["edges"][:2]]
        np.testing.assert_allclose(lengths, atoms.cell.lengths()[:2], atol=2e-3)
    canvases = reader.named("canvas")
    assert len(canvases) == 4
    assert canvases[1]["tabindex"] == "0"
    assert canvases[1]["aria-label"] == "Structure 2: AgO2, energy 0.100, index 1, seed 1-0"


def test_data_cannot_break_out(tmp_path):
    atoms = surface(0)
    path = write_page(
        tmp_path / "page.html",
        NASTY,
        Text(NASTY, NASTY),
        Table(NASTY, {NASTY: NASTY}, columns=[NASTY]),
        Figures(NASTY, {NASTY.replace("$", ""): energy_histogram({"RSS": [0.0]})}),
        Gallery(NASTY, [atoms], [{NASTY: NASTY}]),
        subtitle=NASTY,
    )
    reader = Reader(path.read_text(encoding="utf-8"))
    assert len(reader.scripts) == 2
    assert all(image["src"].startswith("data:") for image in reader.named("img"))
    assert json.loads(reader.scripts[0])["structures"][0]["facts"] == {NASTY: NASTY}
    # Page title, heading, subtitle; four sections' headings; the text; the table's column, name and
    # value; the figure's caption; the key to sort by, and the structure's caption (key and value).
    assert reader.text.count("document.title=1") == 3 + 4 + 1 + 3 + 1 + 1 + 2


def test_atoms_that_are_not_finite_and_clusters_without_a_cell(tmp_path):
    broken = surface(0, math.nan)
    broken.positions[-1] = math.nan
    cluster = Atoms("Pt2", [[0, 0, 0], [0, 0, 2.5]])
    path = write_page(tmp_path / "page.html", "T", Gallery("S", [broken, cluster]))
    first, second = json.loads(Reader(path.read_text()).scripts[0])["structures"]
    assert len(first["positions"]) == len(first["numbers"]) == len(first["fixed"]) == 14
    assert first["facts"]["energy"] is None
    assert second["edges"] == []


def test_a_large_gallery_stays_small_and_states_it(tmp_path):
    big = surface(0, -1.0).repeat((2, 2, 1))
    path = write_page(tmp_path / "page.html", "T", Gallery("S", [big] * (MOST + 380)))
    assert path.stat().st_size < 1_500_000
    reader = Reader(path.read_text(encoding="utf-8"))
    assert len(reader.named("canvas")) == MOST
    assert f"the first {MOST} of {MOST + 380}" in reader.text


def test_facts_must_match_structures(tmp_path):
    with pytest.raises(ValueError, match="2 structures need as many facts, not 1"):
        write_page(tmp_path / "p.html", "T", Gallery("S", [surface(0), surface(1)], [{}]))


# In a browser

DATA_URL = "document.querySelectorAll('canvas')[{}].toDataURL()"
READY = "document.documentElement.dataset.ready === 'yes'"


@pytest.fixture
def opened(browser, page):
    browser.errors.clear()
    browser.requests.clear()
    browser.dark(False)
    browser.open(page, READY)
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]


def picture(browser, number=0):
    return browser.value(DATA_URL.format(number))


def middle(browser, number=0):
    browser.value(f"document.querySelectorAll('canvas')[{number}].scrollIntoView()")
    box = browser.value(
        f"(() => {{ const b = document.querySelectorAll('canvas')[{number}]"
        ".getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    return box[0], box[1]


def colours(browser, number=0):
    """The share of red pixels, and of pixels that are drawn at all."""
    return browser.value(
        f"(() => {{ const c = document.querySelectorAll('canvas')[{number}];"
        "const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let red = 0, drawn = 0; for (let i = 0; i < p.length; i += 4) { drawn += p[i + 3] > 128;"
        "red += p[i + 3] > 128 && p[i] > 120 && p[i] > 2 * p[i + 1]; }"
        "return [red, drawn].map(n => n / (c.width * c.height)); })()"
    )


def test_atoms_are_drawn(opened):
    for number in range(4):
        red, drawn = colours(opened, number)
        assert 0.1 < drawn < 0.9
        assert 0.001 < red < 0.1, "two oxygen atoms"


def test_mouse_touch_and_keys_turn_one_structure(opened):
    other = picture(opened, 1)
    at = middle(opened)
    pictures = [picture(opened)]
    opened.drag(at, (60, 20))
    pictures.append(picture(opened))
    opened.touch_drag(at, (-10, 45))
    pictures.append(picture(opened))
    opened.value("document.querySelector('canvas').focus()")
    opened.key("ArrowLeft")
    pictures.append(picture(opened))
    assert len(set(pictures)) == 4
    opened.mouse("mouseMoved", at[0], at[1] + 30)
    assert picture(opened) == pictures[-1], "nothing turns without being held"
    opened.key("Home")
    assert picture(opened) == pictures[0]
    assert picture(opened, 1) == other


def test_a_full_turn_comes_back(opened):
    """2 pi is 120 * 2 pi pixels: the rotation neither drifts nor distorts."""
    at = middle(opened)
    before = colours(opened)
    for _ in range(8):
        opened.drag(at, (120 * math.pi / 4, 0))
    np.testing.assert_allclose(colours(opened), before, rtol=0.02)


def test_the_wheel_and_keys_zoom(opened):
    at = middle(opened)
    _, before = colours(opened)
    opened.mouse("mouseWheel", *at, deltaX=0, deltaY=200)
    opened.value("new Promise(done => setTimeout(done, 200))")
    _, smaller = colours(opened)
    assert smaller == pytest.approx(before * math.exp(-2 * 200 / 500), rel=0.15)
    opened.value("document.querySelector('canvas').focus()")
    opened.key("+")
    assert colours(opened)[1] > smaller


def choose(browser, name, value):
    browser.value(
        f"(() => {{ const c = document.querySelector('[name={name}]'); "
        f"c.type === 'checkbox' ? c.checked = {json.dumps(value)} : c.value = {json.dumps(value)};"
        "c.dispatchEvent(new Event('change')); })()"
    )


def test_repeat_view_and_sort(opened):
    tilted = [picture(opened, n) for n in range(4)]
    red_before, _ = colours(opened)
    choose(opened, "repeat", True)
    assert not set(tilted) & {picture(opened, n) for n in range(4)}
    choose(opened, "view", "top")
    choose(opened, "repeat", False)
    assert not set(tilted) & {picture(opened, n) for n in range(4)}
    assert colours(opened)[0] > red_before / 2
    captions = "[...document.querySelectorAll('figcaption')].map(c => c.textContent).slice(1)"
    choose(opened, "sort", "energy")
    reported = [re.search(r"energy (\S+),", c).group(1) for c in opened.value(captions)]
    assert reported == ["0.100", "0.200", "0.300", "0.500"]
    choose(opened, "sort", "")
    assert "energy 0.500" in opened.value(captions)[0]


def test_dark_mode_keeps_contrast(opened):
    light = picture(opened)
    opened.dark(True)
    ink, paper = opened.value(
        "['color', 'backgroundColor'].map(k => getComputedStyle(document.body)[k]"
        ".match(/[0-9]+/g).map(Number).reduce((a, b) => a + b) / 3)"
    )
    assert ink - paper > 150
    assert picture(opened) != light


def test_nasty_data_runs_nothing(browser, tmp_path):
    path = write_page(tmp_path / "page.html", "T", Gallery(NASTY, [surface(0)], [{NASTY: NASTY}]))
    browser.errors.clear()
    browser.open(path, READY)
    assert browser.value("document.title") == "T"
    assert browser.errors == []

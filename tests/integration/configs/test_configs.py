"""Every file of conf/ composes, passes its schema and builds."""

import pytest

from experiments.harness.config import compose
from experiments.harness.config.instantiate import build
from experiments.harness.config.renamed import RENAMED
from experiments.harness.config.settings import SCHEMAS
from experiments.harness.pipeline.experiment import Experiment
from experiments.harness.runs.config_keys import flattened
from experiments.harness.training.data import training_data
from painnx import ForceField, ScoreNetwork
from sdedata import shipped
from sdedata.dataset import WINDOW, counts_table
from vpsde import SDE

GROUPS = {
    "calculator": "generate_data", "executor": "generate_data", "tracking": "train",
    "task": "train", "sde": "train", "guide": "sample", "sampler": "sample", "condition": "sample",
    "template": "generate_data", "format": "convert",
}  # fmt: skip
OPTIONS = [
    (group, path.stem) for group in GROUPS for path in sorted((compose.CONF / group).glob("*.yaml"))
]


def test_every_group_is_known_here():
    folders = {
        path.name for path in compose.CONF.iterdir() if path.is_dir() and any(path.iterdir())
    }
    assert folders == set(GROUPS)
    assert {path.stem for path in compose.CONF.glob("*.yaml")} == set(SCHEMAS)


@pytest.mark.parametrize("entry", SCHEMAS)
def test_defaults(entry):
    compose.load(entry)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_options(group, option):
    slab = ["template.slab=slab.extxyz"] if group == "template" else []
    config = compose.load(GROUPS[group], [f"{group}={option}", *slab])
    node = getattr(config, group)
    if group == "executor" and option == "slurm":  # there is no Slurm here
        with pytest.raises(ValueError, match="dry run, nothing was submitted"):
            build(node, dry_run=True)
    elif group == "executor":
        with build(node) as executor:
            assert executor.submit(sum, [1, 2]).result() == 3
    elif group == "template":
        assert node.slab == "slab.extxyz"
    elif group == "sde":
        assert isinstance(build(node), SDE)
    elif group == "task":
        network = build(node.network, elements=[8, 47], cutoff=config.cutoff)
        assert isinstance(network, {"score": ScoreNetwork, "forcefield": ForceField}[node.kind])
    elif group == "format":
        assert node.kind == option
    elif group == "calculator" and option == "emt":
        assert build(node).implemented_properties


def test_one_composition_is_a_list_of_one():
    ours = compose.load(
        "generate_data", ["template=mine", "template.slab=s.xyz", "composition=Pt7"]
    )
    assert ours == compose.load("generate_data", ["template.slab=s.xyz", "compositions=[Pt7]"])
    with pytest.raises(ValueError, match="template.slab: Input should be a valid string"):
        compose.load("generate_data", ["template=mine", "composition=Pt7"])


def test_the_paper_s_schedule():
    """Eq. 1: beta from 0.01 to 3, and its integral."""
    sde = build(compose.load("train", ["sde=vp"]).sde)
    assert sde.drift
    assert (sde.schedule.beta(0.0), sde.schedule.beta(1.0)) == (0.01, 3.0)
    assert sde.schedule.integral(1.0) == pytest.approx(1.505)


@pytest.mark.parametrize(("within", "oxygen"), [(2.0, "all"), (0.5, "poor"), (0.5, "rich")])
def test_the_paper_s_subsets_come_from_two_keys(within, oxygen):
    from experiments.harness.training.data import training_data

    config = compose.load("train", [f"data.max_energy={within}", f"data.oxygen={oxygen}"])
    facts = training_data(config, "score").facts
    rich = {"Ag4O3", "Ag4O4", "Ag4O5", "Ag5O3", "Ag5O4", "Ag5O5", "Ag6O4", "Ag6O5"}
    found = set(facts["compositions"])
    everything = set(shipped.load("rss_c2x8").compositions)
    assert len(everything) == 12
    assert found == {"all": everything, "poor": everything - rich, "rich": rich}[oxygen]
    assert facts["elements"] == [8, 47]
    assert facts["calculator"] == shipped.load("rss_c2x8").meta["calculator"]


@pytest.mark.parametrize("key", RENAMED)
@pytest.mark.parametrize("plus", ["", "+"])
def test_a_key_of_earlier_versions_is_refused_with_its_name_today(key, plus):
    """Also added with +, to an object that would take any argument."""
    today = RENAMED[key]
    entries = [entry for entry in SCHEMAS if today in flattened(compose.load(entry).plain())]
    assert entries or today in Experiment.model_fields  # a key of experiments, no command's
    for entry in entries:
        with pytest.raises(
            ValueError, match=rf"there is no config key.* '?{key}'?;.*called {today} now"
        ):
            compose.load(entry, [f"{plus}{key}=1"])


@pytest.mark.parametrize(
    ("subset", "overrides"),
    [
        ("D_lowE", []),
        ("D_lowE-red", ["data.oxygen=poor"]),
        ("D_lowE-ox", ["data.oxygen=rich"]),
    ],
)
def test_the_counts_of_a_set_are_those_that_a_training_learns_from(subset, overrides):
    config = compose.load("train", ["data.max_energy=0.5", *overrides])
    rows = counts_table(shipped.load(config.data.path))
    assert config.data.z_range == WINDOW
    learned = training_data(config, "score").facts["structures"]
    assert learned == sum(row[subset] for row in rows)

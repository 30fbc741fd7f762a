"""A run folder is input: what is damaged or a stranger's is refused, and nothing is overwritten."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from experiments.harness.benchmarks.memory import largest_so_far
from experiments.harness.config.fields import LARGEST
from experiments.harness.config.instantiate import build
from experiments.harness.config.trust import require_known
from experiments.harness.generation.sample import DIFFUSED, GENERATED, PATH
from experiments.harness.pipeline import runner
from experiments.harness.runs.atomic_io import Busy
from experiments.harness.runs.records import FORMS, read_record
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.structure_search import search
from experiments.harness.training.checkpoint import load, load_model, save
from sdedata import StructureSet
from sweeps.definition.reader import read
from tests.tiny import ROOT, SAMPLE, SEARCH, TRAIN, NoOxygen, run


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "runs/train/first")
    made.save_config({"seed": 1, "train": {"steps": 3}})
    return made


def contents(path: Path) -> dict[Path, bytes]:
    """Of all files of a run but its lock."""
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"}


CONFIGS = {
    "empty": ("", "is empty"),
    "a comment": ("# nothing\n", "is empty"),
    "a list": ("- seed\n- 1\n", "is wrong: Input should be a valid dict"),
    "an integer as key": ("1: 2\n", "the key 1 is no text"),
    "NUL": ("seed: \0\n", "unacceptable character|control characters"),
    "a recursive anchor": ("a: &a {b: *a}\n", "an anchor .* is used twice"),
    "a bomb": ("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "an anchor .* is used twice"),
    "merged keys": ("a: &a {x: 1}\nb:\n  <<: *a\n", "merged keys"),
    "a foreign tag": ("a: !!python/object/apply:os.mkdir [x]\n", "could not determine a construct"),
    "a date": ("a: 2020-01-01\n", "is no plain value"),
    "no date": ("a: 2020-13-45\n", "month must be in 1..12"),
    "a key twice": ("seed: 1\nseed: 2\n", "the key 'seed' twice"),
    "deep": ("a: " + "[" * 900 + "]" * 900, "nested too deeply"),
    "deeper": ("[" * 20000, "cannot be read|nested"),
    "steps": ("train: {steps: many}\n", "is wrong at train.steps: .* got 'many'"),
    "a window": ("window: [5, 1]\n", "is wrong at window: a z range is .low, high."),
    "names of labels": ("reference_keys: {../x: a}\n", r"is wrong at reference_keys.../x: Extra"),
    "bytes": (b"\xff\xfe\x00", "no text|cannot be read"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_is_none_is_refused_and_stays(folder, kind):
    content, reported = CONFIGS[kind]
    file = folder.path / "config.yaml"
    content = content if isinstance(content, bytes) else content.encode()
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)config.yaml .*({reported}).*; restore it, or rem"):
        folder.save_config({"seed": 2})
    assert file.read_bytes() == content


def test_words_beside_a_digest_may_change_and_the_digest_may_not(tmp_path):
    folder = RunFolder(tmp_path)
    calculator = {"digest": "sha256:1", "learned_from": "a set"}
    folder.save_config({"calculator": calculator})
    folder.save_config({"calculator": calculator | {"learned_from": "a set, in other words"}})
    with pytest.raises(ValueError, match=r"calculator\.digest was sha256:1"):
        folder.save_config({"calculator": calculator | {"digest": "sha256:2"}})


FILES = {
    ("summary.json", '{"gen/n": 3'): "cannot be read: .*; delete it and repeat the command",
    ("summary.json", "[]"): "is wrong: Input should be a valid dictionary",
    ("summary.json", '{"gen/n": [1]}'): "is wrong at gen/n",
    ("summary.json", '{"gen/n": NaN}'): "cannot be read: NaN is not a number of JSON",
    ("tracking.json", '{"id": "../../x"}'): "is wrong at id: .*; delete it",
    ("tracking.json", '{"id": 3}'): "is wrong at id",
    ("tracking.json", '{"code": "x"}'): "is wrong at code: Extra inputs",
    ("data.json", '{"data": "x"}'): "lacks digest; delete it",
}


@pytest.mark.parametrize(("name", "content"), FILES)
def test_a_file_that_is_not_of_its_form_is_refused_with_what_helps(folder, name, content):
    (folder.path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name} {FILES[name, content]}"):
        read_record(folder.path / name)


@pytest.mark.parametrize("name", [*FORMS, "metrics.jsonl"])
@pytest.mark.parametrize("command", ["train", "sample"])
def test_a_damaged_record_is_refused_before_any_work(command, name, request):
    folder, again = request.getfixturevalue({"train": "trained", "sample": "sampled"}[command])
    path = folder.path if command == "sample" else folder
    (path / name).write_text('{"a": \n{}\n')
    before = contents(path)
    with pytest.raises(ValueError, match=rf"{name}.*; (delete|remove|restore)"):
        run(command, *again)
    assert contents(path) == before


ROWS = {
    '{"event": "figure", "name": "x", "file": "../../../etc/passwd"}': "leads out of the folder",
    '{"event": "figure", "name": "x", "file": "/etc/passwd"}': "leads out of the folder",
    '{"event": "energies", "name": "gen"}': "an event 'energies' needs energies",
    '{"event": "energies", "name": "gen", "energies": ["low"]}': "is wrong at energies",
    '{"train/step": -1}': "is wrong at train/step",
    '{"train/step": null}': "is wrong at train/step",
    '{"train/step": 1, "train/loss": "low"}': "train/loss is 'low', not a number",
    "[1]": "is wrong: ",
    '{"a": NaN}': "is not JSON",
}


@pytest.mark.parametrize("line", ROWS)
def test_a_row_that_is_none_is_named_by_its_line(folder, line):
    folder.log({"train/step": 1, "train/loss": 0.5})
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=rf"metrics.jsonl, line 2, .*{ROWS[line]}.*; remove that"):
        folder.rows()


def test_a_link_leads_nothing_out_of_the_folder(folder, tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (folder.path / "metrics.jsonl").symlink_to(precious)
    (folder.path / "structures").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="metrics.jsonl leads out of the folder"):
        folder.log({"train/step": 1})
    with pytest.raises(ValueError, match="leads out of the folder"):
        folder.save_structures("precious", [])
    assert precious.read_text() == "mine"


@pytest.fixture(scope="module")
def sampling(world, tmp_path_factory):
    """A finished sampling, and its overrides."""
    home = tmp_path_factory.mktemp("sampling")
    what = [*SAMPLE, *world.networks, "composition=Ag2O", "name=a"]
    run("sample", *what, f"output={home}")
    return home / "sample/a", what


@pytest.fixture
def sampled(sampling, tmp_path):
    """A copy of a finished sampling, and what continues it."""
    shutil.copytree(sampling[0], tmp_path / "sample/a")
    return RunFolder(tmp_path / "sample/a"), [*sampling[1], f"output={tmp_path}"]


def test_a_second_command_changes_nothing_before_it_is_refused(sampled):
    folder, sample = sampled
    before = contents(folder.path)
    with folder.alone(), pytest.raises(Busy, match="another process works in"):
        run("sample", *sample, "n=8", "batch_size=1")
    assert contents(folder.path) == before


def _cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("name", [DIFFUSED, GENERATED, PATH])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_cut_file_of_structures_is_completed(sampled, name, share):
    (folder, sample), names = sampled, (DIFFUSED, GENERATED, PATH)
    before = {one: folder.structures(one) for one in names}
    others = {one: (folder / f"structures/{one}.extxyz").read_bytes() for one in names}
    _cut(folder / f"structures/{name}.extxyz", share)
    run("sample", *sample)
    for one in names:
        if one != name:
            assert (folder / f"structures/{one}.extxyz").read_bytes() == others[one]
    for ours, theirs in zip(folder.structures(name), before[name], strict=True):
        assert ours.info["index"] == theirs.info["index"]
        # another batch size changes the last digits
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-4)


def test_a_periodic_frame_without_a_cell_is_refused(sampled):
    folder, sample = sampled
    path = folder / f"structures/{PATH}.extxyz"
    path.write_text(re.sub('Lattice="[^"]*" ', "", path.read_text(), count=1))
    with pytest.raises(ValueError, match="path.extxyz is wrong in frame 0: it is periodic along"):
        run("sample", *sample)


def test_an_energy_of_atoms_nowhere_is_refused(folder):
    atoms = Atoms("Ag2", [[0, 0, 0], [0, 0, 2.5]], info={"index": 0})
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    folder.save_structures("relaxed", [atoms])
    assert folder.structures("relaxed")[0].get_potential_energy() == -1.0
    path = folder / "structures/relaxed.extxyz"
    path.write_text(path.read_text().replace("2.50000000", "nan"))
    with pytest.raises(ValueError, match="frame 0: its positions are not all finite; delete"):
        folder.structures("relaxed")


@pytest.mark.parametrize("lost", ["index", "relax_steps"])
def test_candidates_that_lack_what_a_search_records_are_refused(world, tmp_path, lost):
    theirs = sorted((world.output / "generate_data/c2x8/candidates").glob("*.npz"))[0]
    frames, rows = search.read(theirs)
    without = {k: v for k, v in frames.info.items() if k != lost}
    for info in (without, frames.info | {lost: frames.info[lost].astype(str)}):
        search.write(tmp_path / "a.npz", [replace(frames, info=info)], rows)
        with pytest.raises(ValueError, match="a.npz holds no candidates: delete the file and rep"):
            search.read(tmp_path / "a.npz")


@pytest.mark.parametrize("file", ["minima", "frames"])
@pytest.mark.parametrize("lost", ["index", "relax_steps"])
def test_a_set_to_extend_that_lacks_what_a_search_records_is_refused(world, tmp_path, file, lost):
    theirs = tmp_path / "theirs"
    shutil.copytree(world.minima.parent, theirs)
    whole = StructureSet.read(theirs / f"{file}.npz")
    search = [*SEARCH, "name=more", "compositions=[Ag3,Ag2O]", "n_per_composition=4"]
    search += [f"extend={theirs}/minima.npz", f"output={tmp_path}/runs"]
    without = {k: v for k, v in whole.info.items() if k != lost}
    for info in (without, whole.info | {lost: whole.info[lost].astype(str)}):
        replace(whole, info=info).write(theirs / f"{file}.npz")
        with pytest.raises(ValueError, match=rf"{file}.npz has no {lost}: extend a set that"):
            run("generate_data", *search)
    assert not (tmp_path / "runs").exists()
    whole.write(theirs / f"{file}.npz")
    assert run("generate_data", *search)["data/candidates"] == 8


@pytest.fixture(scope="module")
def training(world, tmp_path_factory):
    """A finished training, and its overrides."""
    home = tmp_path_factory.mktemp("training")
    what = [*TRAIN, "task=score", "train.steps=6", "name=a", f"data.path={world.minima}"]
    run("train", *what, f"output={home}")
    return home / "train/a", what


@pytest.fixture
def trained(training, tmp_path):
    """A copy of a finished training, and what continues it."""
    shutil.copytree(training[0], tmp_path / "train/a")
    return tmp_path / "train/a", [*training[1], f"output={tmp_path}"]


@pytest.mark.parametrize("rows", [0, 2, 5])
def test_lost_rows_leave_the_model_as_it_is(trained, rows, caplog):
    folder, again = trained
    model, summary = load_model(folder), RunFolder(folder).summary
    metrics = folder / "metrics.jsonl"
    steps = [line for line in metrics.read_text().splitlines(True) if "train/step" in line]
    assert len(steps) == 6
    metrics.write_text("".join(steps[:rows]) + steps[rows][:20])
    run("train", *again)
    assert load_model(folder).card == model.card
    assert RunFolder(folder).summary == summary
    assert RunFolder(folder).rows()
    assert "metrics.jsonl lost its rows from step" in caplog.text


def _changed(state, how):
    match how:
        case "empty":
            return {}
        case "a list":
            return [state]
        case "beyond the end":
            return state | {"step": 900}
        case "no number":
            return state | {"step": "3"}
        case "a metric without a name":
            return state | {"last": {3: 0.5}}
        case "foreign weights":
            return state | {"network": {"x": torch.zeros(3)}}
        case "foreign moments":
            moments = {0: {"exp_avg": torch.zeros(1)}}
            return state | {"optimizer": state["optimizer"] | {"state": moments}}
        case "NaN":
            nan = {
                k: v * float("nan") for k, v in state["network"].items() if v.is_floating_point()
            }
            return state | {"network": state["network"] | nan}


HOW = (
    "a metric without a name",
    "empty",
    "a list",
    "beyond the end",
    "no number",
    "foreign weights",
    "foreign moments",
    "NaN",
)


@pytest.mark.parametrize("how", HOW)
def test_a_checkpoint_of_another_training_is_refused(trained, how):
    folder, again = trained
    file = folder / "checkpoints/last.pt"
    save(file, _changed(load(file), how))
    with pytest.raises(ValueError, match=r"last.pt is not a checkpoint of this training .*delete"):
        run("train", *again)


@pytest.mark.parametrize("key", ["window", "elements", "steps", "sde", "losses", "cutoff", "data"])
@pytest.mark.parametrize("value", [None, "gone", [], -1, [5.0, 1.0], {"a": 1}])
def test_a_card_that_lacks_something(world, tmp_path, key, value):
    content = load(world.score / "model.pt")
    card = json.loads(content["card"]) | {key: value}
    if value == "gone":
        del card[key]
    if (key, value) in (("losses", {"a": 1}),):
        return
    save(tmp_path / "odd.pt", content | {"card": json.dumps(card)})
    with pytest.raises(ValueError, match=r"odd.pt holds no whole model: "):
        load_model(tmp_path / "odd.pt")


@pytest.mark.parametrize("key", ["features", "blocks", "n_radial"])
def test_a_network_of_any_size_is_not_built(world, tmp_path, key):
    content = load(world.score / "model.pt")
    for size in (10**9, 100, "8", None):
        config = json.dumps(json.loads(content["config"]) | {key: size})
        save(tmp_path / "big.pt", content | {"config": config})
        with pytest.raises(ValueError, match=r"big.pt holds no whole model: (a network|its weig)"):
            load_model(tmp_path / "big.pt")


def test_the_largest_network_that_a_file_may_describe_is_not_built(world, tmp_path):
    content = load(world.score / "model.pt")
    largest = {key: LARGEST[key] for key in ("features", "blocks", "n_radial")}
    config = json.dumps(json.loads(content["config"]) | largest)
    save(tmp_path / "big.pt", content | {"config": config})
    before = largest_so_far()
    with pytest.raises(ValueError, match="its weights are those of another network"):
        load_model(tmp_path / "big.pt")  # of 80 GB
    for key in largest:
        some = {k: v for k, v in json.loads(config).items() if k != key}
        save(tmp_path / "big.pt", content | {"config": json.dumps(some)})
        with pytest.raises(ValueError, match=f"its network lacks {key}"):
            load_model(tmp_path / "big.pt")
    assert largest_so_far() < before + 5e7


FOREIGN = [
    {"_target_": "os.mkdir", "path": "x"},
    {"_target_": "subprocess.check_output", "args": ["touch", "x"]},
    {"_target_": "experiments.calculators.chgnet", "model": {"_target_": "os.mkdir", "path": "x"}},
    {"_target_": "experiments.calculators.mace", "model": "runs/evil.model"},
    {"_target_": "experiments.harness.runs.atomic_io.write_text", "path": "x", "text": "x"},
    {"_target_": "ase.calculators.vasp.Vasp", "command": "touch x"},
    {"_target_": "ase.calculators.emt.os.mkdir", "path": "x"},
    {"_target_": "torch.hub.load", "repo_or_dir": "x"},
    {"_target_": "optuna.samplers._base.os.mkdir", "path": "x"},
    {"_target_": "hydra.utils.get_method", "path": "os.mkdir"},
    {"_target_": ["os.mkdir"], "path": "x"},
    {"_target_": "ase.calculators.emt.EMT", "asap_cutoff": "${oc.env:HOME}"},
]


def sweep_that_names(node: dict, file: Path) -> Path:
    """A sweep with this object as its sampler."""
    content = yaml.safe_load((ROOT / "sweeps/smoke.yaml").read_text())
    file.write_text(yaml.safe_dump(content | {"sampler": node}))
    return file


def experiment_that_names(node: dict, file: Path) -> Path:
    """An experiment with this object as its calculator."""
    content = yaml.safe_load((ROOT / "experiments/quickstart_ag6o3/experiment.yaml").read_text())
    content["stages"]["evaluate"] += [
        f"{'' if key == '_target_' else '+'}calculator.{key}={as_hydra(value)}"
        for key, value in node.items()
    ]
    file.write_text(yaml.safe_dump(content))
    return file


def as_hydra(value: str | list | dict) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_hydra(one)}' for key, one in value.items())}}}"
    return str(value) if isinstance(value, list) else f"'{value}'"


REFUSED = r"add trust=true|filled in from this machine|_target_.*\['os.mkdir'\]"


@pytest.mark.parametrize("node", FOREIGN, ids=lambda node: str(node["_target_"]))
def test_a_sweep_or_an_experiment_runs_no_foreign_code(node, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = sweep_that_names(node, tmp_path / "mine.yaml")
    with pytest.raises(ValueError, match=REFUSED):
        read(file)
    file = experiment_that_names(node, file)
    with pytest.raises(ValueError, match=REFUSED):
        runner.prepare(file, [f"output={tmp_path}"])
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


def test_what_the_user_trusts_is_built(tmp_path):
    file = tmp_path / "mine.yaml"
    sweep_that_names({"_target_": "optuna.samplers._random.RandomSampler"}, file)
    with pytest.raises(ValueError, match=r"_random.RandomSampler'.* add trust=true"):
        read(file)
    assert type(read(file, trust=True).make_sampler(0)) is optuna.samplers.RandomSampler
    experiment_that_names({"_target_": "tests.tiny.NoOxygen"}, file)
    with pytest.raises(ValueError, match=r"tests.tiny.NoOxygen'.* add trust=true"):
        runner.prepare(file, [f"output={tmp_path}"])
    *_, last = runner.prepare(file, [f"output={tmp_path}", "trust=true"]).stages
    assert type(build(last.config.calculator)) is NoOxygen


@pytest.mark.parametrize("node", FOREIGN, ids=lambda node: str(node["_target_"]))
def test_what_a_file_may_not_name(node):
    with pytest.raises(ValueError, match="a file (names|gives) .*; if you know who wrote that"):
        require_known({"a": [node]}, "a file")


def test_a_sample_of_a_stranger_runs_no_code(sampled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, _ = sampled
    for node in FOREIGN[:-1]:
        folder._write_yaml("config.yaml", folder.config | {"trained_on": node})
        with pytest.raises(ValueError, match="names|gives"):
            run("evaluate", f"sample={folder.path}", "executor=threads", "tracking.mode=disabled")
    assert [p.name for p in tmp_path.iterdir()] == ["sample"]


@pytest.mark.parametrize("name", ["../../x", "/x", "..", ".", "''", "a/b", ".x", "x" * 300])
@pytest.mark.parametrize("entry", ["train", "sample", "evaluate", "generate_data", "benchmark"])
def test_a_name_leads_nowhere_else(entry, name):
    from experiments.harness.config import compose

    with pytest.raises(ValueError, match="config key name: a name "):
        compose.load(entry, [f"name={name}"])


def test_a_stage_stays_below_the_run(tmp_path):
    for key in ("output", "+output"):
        with pytest.raises(ValueError, match="stage score: output is that of the whole run"):
            runner.prepare("quickstart_ag6o3", [f"output={tmp_path}", f"score.{key}=/elsewhere"])

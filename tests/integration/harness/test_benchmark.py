"""The benchmark: its counters and clocks against what is known, and one small run as a whole."""

import json
import re
import subprocess
import sys
from statistics import median
from typing import get_args

import pytest
import torch
from ase.build import bulk
from ase.neighborlist import neighbor_list

from experiments.harness.benchmarks import benchmark, contest, machine, neighbours
from experiments.harness.benchmarks.machine import cost
from experiments.harness.benchmarks.memory import largest_so_far
from experiments.harness.benchmarks.peer import Peer
from experiments.harness.benchmarks.relaxation import ORIGINALS, OURS, relaxing_on, starts
from experiments.harness.benchmarks.results import Goal, Pair, ratios
from experiments.harness.benchmarks.tables import short
from experiments.harness.benchmarks.workloads import CELLS, Timing
from experiments.harness.commands import benchmark as command
from experiments.harness.commands.main import main as surfdiff
from experiments.harness.config import compose
from experiments.harness.config.settings import Benchmark
from experiments.harness.runs.atomic_io import Busy
from experiments.harness.runs.markdown import table
from experiments.harness.runs.run_folder import RunFolder
from painnx import ForceField
from sdedata import Graph, collate, shipped

SECONDS, AMOUNT = 0.05, 7  # of every task of the peer below
SERVER = f"""
import json, os, sys
setup = json.loads(sys.stdin.readline())
print(json.dumps({{"name": "peer", "omp": os.environ["OMP_NUM_THREADS"]}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["task"] == "die":
        sys.exit("a reason\\nit had to stop")
    print(json.dumps({{"seconds": {SECONDS}, "amount": {AMOUNT}}}), flush=True)
"""
SMALL = [
    "device=cpu", "threads=1", "rounds=2", "cells=[p3x3,p3x3_2x2]", "structures=4", "steps=3",
    # 600 steps: with 200 the potential is so rough that a structure may take 400 moves or 20.
    "training_steps=2", "seed=2",
    "network={features: 8, blocks: 2, n_radial: 6}", "cutoff=4.0", "batch_size=8",
    "relaxation={structures: 4, one_by_one: 2, fmax: 0.1, max_steps: 400, training_steps: 600, "
    "potentials: [], potential_structures: 2}",
    "growth={repeats: [[1,1],[2,1]], batches: [1,2], cutoffs: [3.0,4.0]}",
]  # fmt: skip


@pytest.fixture
def server(tmp_path):
    path = tmp_path / "peer.py"
    path.write_text(SERVER)
    return path


# What a task needs


def test_operations_and_bytes_of_known_tasks():
    a, b = torch.rand(30, 40), torch.rand(40, 50)
    found = cost(lambda: len(torch.mm(a, b)))  # per row of the result
    assert found.operations == 2 * 40 * 50
    assert found.bytes == 4 * (30 * 40 + 40 * 50 + 30 * 50) / 30
    x, y = torch.rand(1000), torch.rand(1000)
    assert cost(lambda: bool((x + y).shape)).bytes == 3 * 4000
    assert cost(lambda: bool(x.mul_(y).shape)).bytes == 3 * 4000
    assert cost(lambda: bool(x.view(10, 100).T[2:].shape)).bytes == 0
    assert cost(lambda: bool((x.view(1000, 1).expand(1000, 5) + 0).shape)).bytes == 4000 + 20000


def test_operations_of_a_backward_pass():
    a, b = torch.rand(30, 40, requires_grad=True), torch.rand(40, 50, requires_grad=True)

    def forward_and_backward():
        (a @ b).sum().backward()
        return 1

    assert cost(forward_and_backward).operations == 3 * 2 * 30 * 40 * 50


def test_kernels_are_counted_as_what_they_are_defined_to_do():
    """What the kernels sum escapes the counters: the network is counted with the eager backend."""
    graph = Graph.from_atoms(bulk("Ag") * (2, 2, 1), 6.0)
    assert len(graph.vectors)  # found now, once, and not counted
    reported = []
    for backend in ("auto", "eager"):
        field = ForceField((8, 47), features=8, blocks=2, backend=backend).eval()

        def forces(field=field):
            field(graph)
            return 1

        reported.append(cost(forces))
    assert reported[0] == reported[1]
    assert reported[0].operations > 2 * len(graph.senders) * 21 * 24 * 2  # two blocks' filters


def test_the_limits_are_operations_and_bytes_over_the_shortest_time(monkeypatch):
    """The first try of each, which finds the memory, is left out."""
    seconds = [0.1, 3.0, 2.0, 4.0] * 2 + [0.1, 0.5, 0.4, 0.6]  # two matrices, then a copy
    ticks = iter([time for one in seconds for time in (0.0, one)])
    monkeypatch.setattr(machine, "clock", lambda device: next(ticks))
    monkeypatch.setattr(machine, "MATRIX_SIZES", {"cpu": (20, 30)})
    monkeypatch.setattr(machine, "COPIED", {"cpu": 1000})
    found = machine.measure(torch.device("cpu"))
    assert found.matrix_rate == 2 * 30**3 / 2.0
    assert found.bandwidth == 2 * 4000 / 0.4
    assert not list(ticks)


# A peer


def test_a_peer_s_time_is_its_own(server):
    with Peer("agedi", sys.executable, server, {"threads": 3}) as peer:
        assert peer.versions == {"name": "peer", "omp": "3"}
        timings = [peer.timed("anything") for _ in range(3)]
    assert peer.process.poll() is not None
    assert timings == [Timing(SECONDS, AMOUNT)] * 3
    ours = [Timing(SECONDS / 10, AMOUNT)] * 3
    (pair, twice) = Pair("task", ("a",), "peer"), Pair("task", ("a", "a"), "peer")
    times = {"a": ours, "task: peer": timings}
    assert ratios(pair, times) == pytest.approx([10 * t.seconds / SECONDS for t in timings])
    assert ratios(twice, times) == pytest.approx([5 * t.seconds / SECONDS for t in timings])


def test_a_peer_ends_with_an_error_of_ours(server):
    with pytest.raises(KeyError), Peer("agedi", sys.executable, server, {"threads": 1}) as peer:
        raise KeyError
    assert peer.process.poll() is not None


def test_a_peer_that_dies(server, capsys):
    with (
        Peer("agedi", sys.executable, server, {"threads": 1}) as peer,
        pytest.raises(ValueError, match=r"peers\.agedi=.* stopped: it had to stop"),
    ):
        peer.timed("die")
    assert "agedi: a reason" in capsys.readouterr().err


# Others' neighbour lists, relaxation, memory


def batch(n: int) -> Graph:
    structures = shipped.load("rss_c2x8")
    return collate([Graph.from_atoms(structures.atoms(i), 6.0) for i in range(0, 20 * n, 20)])


def test_neighbour_lists_agree_with_each_other_and_with_ase():
    graph = batch(4)
    found, edges, notes = neighbours.agreeing(graph, threads=1)
    assert edges == sum(len(neighbor_list("i", atoms, 6.0)) for atoms in graph.to_atoms())
    assert {"ours", "matscipy", "vesin"} <= set(found)
    assert all(lister() == edges for lister in found.values())
    assert all("torch-cluster is not installed" in note for note in notes)


def test_who_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "matscipy", None)
    monkeypatch.setitem(sys.modules, "vesin", None)
    found, _, notes = neighbours.agreeing(batch(1), threads=1)
    assert not {"matscipy", "vesin"} & set(found)
    assert "matscipy is not installed: its neighbour lists are left out" in notes
    assert len([note for note in notes if "vesin" in note]) == 1


def test_who_finds_other_edges_is_left_out(monkeypatch):
    monkeypatch.setattr(neighbours, "listers", lambda *_: [("ours", lambda: 4), ("x", lambda: 5)])
    found, edges, notes = neighbours.agreeing(batch(1), threads=1)
    assert (list(found), edges) == (["ours"], 4)
    assert notes == ["x finds 5 edges instead of 4: it is left out"]


def test_relaxations_start_from_displaced_overlayers():
    structures = shipped.load("rss_ag6o3_p3x3")
    for k, atoms in enumerate(starts(len(structures) + 2, seed=1)):
        moved = atoms.positions - structures.atoms(k % len(structures)).positions
        assert (moved[:18] == 0).all()
        assert 0.05 < moved[18:].std() < 0.4
    assert (starts(1, seed=1)[0].positions != starts(1, seed=2)[0].positions).any()


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_potential_in_a_batch_relaxes_to_the_minima_of_its_package_s_own_loop(name):
    pytest.importorskip("sevenn" if name == "sevennet" else name)
    own = ["relaxation.potential_structures=2", "relaxation.one_by_one=2", "relaxation.fmax=0.4"]
    relaxing = relaxing_on(name, compose.load("benchmark", own))
    assert relaxing.batch(60) == relaxing.loop(OURS, 60) == 2
    assert relaxing.moves[OURS] == relaxing.moves["batch"]
    assert 0 < max(relaxing.moves[OURS]) < 60
    differences = relaxing.differences(OURS)
    assert differences["energy_max"] < 2e-3
    assert differences["displacement_max"] < 0.02


def test_memory_is_that_of_the_process():
    code = (
        "from experiments.harness.benchmarks.memory import largest_so_far as f; a = f();"
        "b = bytearray(300 * 10**6); del b; print(a, f())"
    )
    torch.ones(100 * 10**6)  # this process has been large: that must not count
    before, after = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert before < 100e6 < largest_so_far()
    assert 299e6 < after - before < 310e6


# The whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run beside a peer of known times; its folder, what it printed, what it returned."""
    home = tmp_path_factory.mktemp("benchmark")
    server = home / "peer.py"
    server.write_text(SERVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(contest.SERVERS, "agedi", server)
        overrides = [*SMALL, f"output={home}", f"peers.agedi={sys.executable}"]
        summary = benchmark.run(compose.load("benchmark", overrides))
    folder = home / "benchmark/speed"
    return folder, json.loads((folder / "benchmark.json").read_text()), summary


def each(record: dict, name: str) -> list[float]:
    """Seconds per unit in each round."""
    times = record["times"][name]
    return [s / a for s, a in zip(times["seconds"], times["amounts"], strict=True)]


@pytest.mark.slow
def test_every_task_is_timed_in_every_round(finished):
    _, record, _ = finished
    amounts = {name: times["amounts"] for name, times in record["times"].items()}
    assert amounts["training score"] == amounts["training force field"] == [16, 16]
    assert amounts["sampling p3x3"] == amounts["sampling p3x3 guided"] == [12, 12]
    assert amounts["sampling p3x3_2x2"] == [4, 4]  # one step of as many structures
    assert amounts["relaxation"] == [4, 4]
    assert amounts["relaxation: ASE"] == [2, 2]
    for task in ("training score", "sampling p3x3 guided", "training score and force field"):
        assert amounts[f"{task}: AGeDi"] == [AMOUNT, AMOUNT]
        assert record["times"][f"{task}: AGeDi"]["seconds"] == [SECONDS, SECONDS]
    order = list(amounts)
    assert order.index("sampling p3x3: AGeDi") == order.index("sampling p3x3") + 1
    for name, times in record["times"].items():
        rates = [1 / t for t in each(record, name)]
        assert times["per_second"]["median"] == pytest.approx(median(rates))
        assert times["per_second"]["low"] == pytest.approx(min(rates))


@pytest.mark.slow
def test_ratios_and_shares_follow_from_the_times(finished):
    _, record, summary = finished
    ours = {
        "training score": ["training score"],
        "training score and force field": ["training score", "training force field"],
        "sampling p3x3_2x2 guided": ["sampling p3x3_2x2 guided"],
    }
    found = {pair["theirs"]: pair for pair in record["ratios"]}
    for task, names in ours.items():
        theirs = each(record, f"{task}: AGeDi")
        expected = [t / sum(each(record, name)[k] for name in names) for k, t in enumerate(theirs)]
        assert found[f"{task}: AGeDi"]["rounds"] == pytest.approx(expected)
        key = task.replace(" ", "_")
        assert summary[f"benchmark/{key}_agedi_ratio"] == pytest.approx(median(expected))
    for name, share in record["shares"].items():
        for key, limit in (("operations", "matrix_rate"), ("bytes", "bandwidth")):
            expected = [
                record["costs"][name][key] / t / machine[limit]
                for t, machine in zip(each(record, name), record["machine"], strict=True)
            ]
            assert share[limit]["median"] == pytest.approx(median(expected))
            assert 0 < share[limit]["high"] < 3


@pytest.mark.slow
def test_what_is_counted_is_what_is_done(finished):
    _, record, _ = finished
    operations = {name: found["operations"] for name, found in record["costs"].items()}
    # Forces are really computed, although guidance pulls with no strength: energy and gradient.
    assert operations["sampling p3x3 guided"] > 1.5 * operations["sampling p3x3"]
    assert operations["training score"] > 2 * operations["sampling p3x3"] * 22 / 27
    assert operations["sampling p3x3_2x2"] > operations["sampling p3x3"]
    assert "neighbour lists" not in operations


@pytest.mark.slow
def test_both_ways_relax_to_the_same_force(finished):
    folder, record, _ = finished
    moves = record["moves"]
    assert len(moves["batch"]) == 4 * (2 + 2)  # warm-up, count, two rounds
    assert len(moves["ASE"]) == len(moves["ASE with our moves"]) == 2 * 2
    assert 0 < max(moves["batch"] + moves["ASE"]) < 400  # none gave up
    assert moves["ASE with our moves"] == pytest.approx(moves["batch"][:4], abs=3)
    text = (folder / "table.md").read_text()
    assert f"{median(moves['batch']):.0f} (batch), {median(moves['ASE']):.0f} (ASE), " in text


@pytest.mark.slow
def test_goals_are_reported_as_measured(finished):
    folder, record, _ = finished
    reached = {(one["task"], one["beside"]): one for one in record["reached"]}
    sampling = reached["sampling p3x3", "AGeDi"]
    assert sampling["goal"] == {"at_least": 5, "aim": 15, "below": False}
    assert reached["training score", "AGeDi"]["goal"]["aim"] == 12
    assert reached["relaxation", "ASE"]["goal"]["aim"] == 20
    for one in record["reached"]:
        if one["goal"] and one["kind"] != "bytes":
            assert (one["outcome"] == "missed") == (one["median"] < one["goal"]["at_least"])
    memory = reached["training score", "peak memory"]
    assert memory["median"] == record["memory"]["training score"]
    assert 2e8 < memory["median"] < 1.5e9
    assert memory["outcome"] == "ok"
    assert reached["neighbour lists", "vesin"]["goal"] is None
    text = (folder / "table.md").read_text()
    assert f"{record['processor']}, 1 of its threads" in text
    for name in [*record["times"], "GFLOP/s", "under 1.50 GB", *record["notes"]]:
        assert name in text


@pytest.mark.slow
def test_growth(finished):
    folder, record, _ = finished
    assert [p["atoms"] for p in record["growth"]["atoms"]] == [27, 54]
    assert [p["x"] for p in record["growth"]["batch"]] == [1, 2]
    short_cutoff, long_cutoff = record["growth"]["cutoff"]
    assert short_cutoff["edges"] < long_cutoff["edges"]
    first = shipped.load("rss_ag6o3_p3x3").atoms(0)
    assert long_cutoff["edges"] == len(neighbor_list("i", first, 4.0))
    assert (folder / "figures/growth.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figures/growth.svg").is_file()


@pytest.mark.slow
def test_another_configuration_does_not_overwrite(finished):
    folder, _, _ = finished
    overrides = [*SMALL, f"output={folder.parents[1]}", "rounds=1"]
    with pytest.raises(ValueError, match="rounds was 2, is now 1"):
        benchmark.run(compose.load("benchmark", overrides))


@pytest.mark.slow
def test_one_benchmark_at_a_time_works_in_a_folder(finished):
    folder, record, _ = finished
    overrides = [*SMALL, f"output={folder.parents[1]}"]
    with RunFolder(folder).alone(), pytest.raises(Busy, match="another process works in"):
        benchmark.run(compose.load("benchmark", overrides))
    assert json.loads((folder / "benchmark.json").read_text()) == record


# Words


def test_outcomes_of_goals():
    assert [Goal(5, 12).outcome(x) for x in (4.99, 5, 12)] == ["missed", "ok", "aim reached"]
    assert [Goal(1.5, below=True).outcome(x) for x in (1.4, 1.5)] == ["ok", "missed"]


def test_columns_line_up():
    text = table(("task", "unit", "n"), [("a", "structures", "1,234"), ("longer", "s", "5")], 2)
    assert {len(line) for line in text.splitlines()} == {len(text.splitlines()[0])}
    assert text.splitlines()[1] == "| ------ | ---------- | ----: |"
    numbers = (0.0123456, 1.2345, 99.96, 123.4, 12345.6)
    assert [short(x) for x in numbers] == ["0.0123", "1.23", "100", "123", "12,346"]


def test_the_cells_of_the_schema_are_those_there_are():
    (options,) = get_args(Benchmark.model_fields["cells"].annotation)
    assert set(get_args(options)) == set(CELLS)


BAD = [
    (["cells=[p3x3,p9x9]"], r"cells\.1: Input should be 'p3x3'.*got 'p9x9'"),
    (["threads=0"], "threads: Input should be greater than or equal to 1, got 0"),
    (["rounds=0"], "rounds: Input should be greater than or equal to 1"),
    (["device=abacus"], "device=abacus is not available"),
    (["peers.agedi=nowhere/python"], "peers.agedi=nowhere/python is not an interpreter that can"),
    (
        [f"peers.agedi={sys.executable}"],
        r"stopped: .*No module named 'agedi'; --help explains how to set it up",
    ),
    (["peers.others=python"], "no config key or group 'peers.others'"),
]


@pytest.mark.parametrize(("arguments", "reported"), BAD, ids=[b[0][0].split("/")[0] for b in BAD])
def test_bad_input_is_one_sentence(arguments, reported, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        surfdiff(["benchmark", *SMALL, f"output={tmp_path}", *arguments])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(reported, err.splitlines()[-1]), err
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match="device=cuda is not available"):
        benchmark.run(compose.load("benchmark", ["device=cuda"]))


def test_help_explains_how_to_set_up_the_peer():
    assert 'pip install "agedi[full]==1.4.0"' in command.__doc__
    assert "peers.agedi=peer/bin/python" in command.__doc__

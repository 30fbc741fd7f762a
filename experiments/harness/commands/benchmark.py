"""Time training, sampling, neighbour lists and relaxation, on this machine and beside others.

After a warm-up every task is done once in each of several rounds, ours and another's in turn, so
that a machine that is busy for a while slows both. Reported are medians (lowest-highest), ratios of
the same round, the memory of training, how the time of a score grows with atoms, batch and cutoff,
and beside each network's speed what it needs: operations and bytes per unit, with the share of
this machine's measured matrix rate and memory bandwidth that it reaches.

Everything is in the run folder: every time in benchmark.json, the tables in table.md, the growth in
figures/growth.png. The same command measures anew. Compared with ASE, with matscipy, vesin (both of
`make setup`) and torch-cluster (`make cluster`) where they are installed, and with AGeDi, which
needs an environment of its own:

    python3.12 -m venv peer
    peer/bin/pip install "agedi[full]==1.4.0"
    surfdiff benchmark peers.agedi=peer/bin/python
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = (
    "device=cpu threads=2 cells=[p3x3]",
    "peers.agedi=peer/bin/python",
)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "benchmark",
        "experiments.harness.benchmarks.benchmark",
        __doc__,
        EXAMPLES,
        arguments,
        "measures anew",
    )

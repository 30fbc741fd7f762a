"""Convert structures to input of other programs: POSCAR, VASP folders, GPAW scripts.

The source is a run (sample, evaluate, label, generate_data) or any file that ASE reads. Taken are
the n structures of lowest energy, each surface once where the run knows which are the same.
"""

from collections.abc import Sequence

from experiments.harness.commands.command_line import run_from_config

EXAMPLES = (
    "runs/evaluate/pt7 format=vasp n=5",
    "best.traj format=gpaw format.ecut=500",
    "runs/sample/pt7 format=poscar name=to_check",
)


def main(arguments: Sequence[str]) -> None:
    run_from_config(
        "convert",
        "experiments.harness.generation.convert",
        __doc__,
        EXAMPLES,
        with_source(arguments),
        again="writes the same files",
        inputs={"source": "run or file"},
    )


def with_source(arguments: Sequence[str]) -> list[str]:
    """Complete the first argument to source=..., unless it is an option or KEY=VALUE."""
    if arguments and "=" not in arguments[0] and not arguments[0].startswith("-"):
        return [f"source={arguments[0]}", *arguments[1:]]
    return list(arguments)

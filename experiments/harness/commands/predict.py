"""Predict energies and forces of structures with a trained force field."""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing
from sdedata.options import add_options, from_options


def main(arguments: Sequence[str]) -> None:
    parser = Parser("predict", __doc__)
    parser.add_argument(
        "run", type=Path, help="folder of a force field's training run, or model file"
    )
    parser.add_argument("structures", type=Path, help="any file that ASE reads")
    parser.add_argument("--output", type=Path, help="default: <structures>_predicted.extxyz")
    add_options(parser)
    parsed = parser.parse_args(arguments)
    structures: Path = parsed.structures
    output = parsed.output or structures.with_name(f"{structures.stem}_predicted.extxyz")
    with refusing("predict", parsed.traceback):
        from experiments.harness.generation.predict import predict

        energies, errors = predict(parsed.run, structures, output, from_options(parsed))
    for k, energy in energies.items():
        print(f"frame {k}: {energy:.4f} eV")
    print(errors)
    print(f"written to {output}")

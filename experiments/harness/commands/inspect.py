"""Show what a run or a model file is: its progress, losses, z range, elements, cutoff."""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parser = Parser("inspect", __doc__)
    parser.add_argument("run", type=Path, help="folder of a run, or a model file")
    parsed = parser.parse_args(arguments)
    with refusing("inspect", parsed.traceback):
        from experiments.harness.training.inspect import facts

        found = facts(parsed.run)
    width = max(len(name) for name in found)
    for name, value in found.items():
        print(f"{name:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")

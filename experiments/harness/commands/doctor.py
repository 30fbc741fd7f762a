"""Show versions, device, neighbour backends and whether a W&B key is present."""

from collections.abc import Sequence

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parsed = Parser("doctor", __doc__).parse_args(arguments)
    with refusing("doctor", parsed.traceback):
        from experiments.harness.execution.doctor import report

        for name, value in report().items():
            print(f"{name:<12} {value}")

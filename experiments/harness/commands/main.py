"""`surfdiff COMMAND ...`: find the command and hand its arguments on."""

import sys
from importlib import import_module

from experiments.harness.execution.logs import log_to_stderr

COMMANDS = {
    "generate_data": "experiments.harness.structure_search.generate_data",
    "train": "experiments.harness.training.train",
    "sample": "experiments.harness.generation.sample",
    "evaluate": "experiments.harness.generation.evaluate",
    "quickstart": "experiments.harness.pipeline.quickstart",
    "predict": "experiments.harness.generation.predict",
    "inspect": "experiments.harness.training.inspect",
    "compare": "experiments.harness.comparison.compare",
    "sync": "experiments.harness.tracking.rebuild",
    "doctor": "experiments.harness.execution.doctor",
    "sweep": "sweeps.execution.run",
    "sweep_show": "sweeps.analysis.show",
    "sweep_launch": "sweeps.execution.launch",
    "sweep_trial": "sweeps.execution.trial",
    "sweep_report": "sweeps.analysis.report",
    "sweep_for_wandb": "sweeps.definition.for_wandb",
    "dashboard": "experiments.harness.tracking.workspace",
    "benchmark": "experiments.harness.benchmarks.benchmark",
    "search_cost": "experiments.harness.structure_search.search_cost",
    "publish": "experiments.harness.publishing.publish",
    "package_data": "experiments.harness.publishing.package_data",
}
"""Each command's module, whose `main` reads `sys.argv`."""


def main() -> None:
    """Run the command that the first argument names; exit code 2 if there is none."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: surfdiff COMMAND ...\n\n" + "\n".join(f"  {name}" for name in COMMANDS))
        return
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"surfdiff: there is no command {name}; surfdiff --help lists them", file=sys.stderr)
        sys.exit(2)
    log_to_stderr()
    sys.argv = [name, *rest]
    import_module(COMMANDS[name]).main()

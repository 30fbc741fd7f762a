"""Sweeps: studies of Optuna whose trials are pipelines of the project's own commands.

usage: surfdiff sweep [run] FILE [KEY=VALUE ...]        run a sweep, join it, or continue it
       surfdiff sweep show FILE [KEY=VALUE ...]         print its trials and what they show so far
       surfdiff sweep launch FILE [KEY=VALUE ...]       run its workers as Slurm jobs
       surfdiff sweep trial FILE PARAMETER=VALUE ...    run one point, without the study
       surfdiff sweep publish [FILE ...]                write sweeps/results and the README

  storage=URL         sqlite:///FILE (one machine; default: RUNS/sweeps/studies.db), postgresql://...
  runs=FOLDER         the trials' run folders are sweeps/NAME/... below it (default: runs)
  workers=N           processes on this machine, which share its cores (default: 1)
  retry_failed=true   queue the failed trials of the study again
  heartbeat=SECONDS   a worker without one for three of them is taken for dead (default: 20)
  trust=true          build calculators and samplers that are on no list of this project's
  KEY=VALUE           change a key of the file, e.g. budget=24 name=eta_long tracking.mode=disabled
  --traceback         show where an error came from

launch:

  jobs=N cpus=N memory=GB hours=H   number of jobs, and what each has (default: 4, 4, 8, 12)
  cluster=slurm|local               local: processes on this machine (default: slurm)
  slurm.KEY=VALUE                   any parameter of submitit's, e.g. slurm.partition=gpu
  wait=true                         wait until the jobs have ended

The keys of a file are explained in sweeps/README.md.
"""

import sys
from collections.abc import Sequence

from experiments.harness.commands.command_line import refusing


def main(arguments: Sequence[str]) -> None:
    """Run `surfdiff sweep ...`; exit code 2 for bad input, 1 if no trial is complete."""
    if not arguments or {"--help", "-h"} & set(arguments):
        print((__doc__ or "").strip())
        sys.exit(0 if arguments else 2)
    with refusing("sweep", "--traceback" in arguments, "continues where it stopped"):
        from sweeps.subcommands import run_subcommand  # here: it imports Optuna

        if not run_subcommand(arguments):
            sys.exit(1)  # as printed

#!/usr/bin/env bash
# dask-jobqueue 0.9.0: importing it replaces the process's handler of SIGINT, and an interrupted program exits with 0.
#
# The package has a runner for MPI-like jobs, whose module sets the handler at its top level, and `import dask_jobqueue`
# imports that module. From then on Ctrl-C (or a batch system's SIGINT) raises SystemExit instead of
# KeyboardInterrupt: `except KeyboardInterrupt` is skipped, and the exit code is 0, so that a script goes on as if
# the program had done its work. Expected: an import leaves signal handlers alone; an interrupted Python ends
# with KeyboardInterrupt and not with 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check dask-jobqueue==0.9.0 distributed==2026.8.0 2> /dev/null
cat > program.py <<'PYTHON'
import os
import signal
import sys

if sys.argv[1] == "with":
    import dask_jobqueue
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted", end=", ")
    sys.exit(130)
PYTHON
plain=0; imported=0
said_plain=$(env/bin/python program.py without) || plain=$?
said_imported=$(env/bin/python program.py with) || imported=$?
echo "without the import: ${said_plain}exit code $plain; with it: ${said_imported:-no KeyboardInterrupt, }exit code $imported"
[ "$plain" = 130 ] && [ "$imported" = 0 ] && [ -z "$said_imported" ]

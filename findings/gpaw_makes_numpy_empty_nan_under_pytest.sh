#!/usr/bin/env bash
# GPAW 25.7.0 (with NumPy 2.4.6, matplotlib 3.11.2, pytest 9.2.0) fills every numpy.empty with NaN under pytest.
#
# GPAW turns on its debugging mode in any process that has the module pytest. In that mode it puts its
# own functions in the place of numpy.empty and numpy.empty_like, for all libraries, which fill arrays
# with NaN (of objects, too, whose entries NumPy makes None), and makes floating-point errors raise.
# matplotlib relies on the None: `Figure.subplots(1, 2, sharey=True)` ends in a TypeError that names
# neither package. So figures that users can draw fail in the tests of any project that imports GPAW,
# after the first test that does, and a NaN that a user would get raises there. Imported before pytest,
# GPAW does nothing of that.
#
# Needs a C compiler, BLAS and libxc with its headers (Debian: libxc-dev libopenblas-dev), as the
# package is built when it is installed. Some minutes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check \
    gpaw==25.7.0 numpy==2.4.6 matplotlib==3.11.2 pytest==9.2.0
cat > observe.py <<'PYTHON'
import sys

for name in sys.argv[1:]:
    __import__(name)

import numpy as np
from matplotlib.figure import Figure

print("objects:", np.empty(2, object).tolist(), "invalid:", np.geterr()["invalid"], end=", ")
try:
    Figure().subplots(1, 2, sharey=True)
    print("subplots: drawn")
except TypeError as error:
    print("subplots:", error)
PYTHON
env/bin/python observe.py gpaw pytest | tee before
env/bin/python observe.py pytest gpaw | tee after
grep -qx "objects: \[None, None\] invalid: warn, subplots: drawn" before
grep -q "^objects: \[nan, nan\] invalid: raise, subplots: 'other' must be an instance of" after

#!/usr/bin/env bash
# sevenn 0.13.0 and mace-torch 0.3.16 cannot be installed into one environment.
#
# Both build on e3nn: sevenn needs 0.5.0 or newer, mace-torch exactly 0.4.4. pip
# refuses the two together. Who installs mace-torch after sevenn gets e3nn 0.4.4 and a warning;
# sevenn then stops at its import, because e3nn changed its convention of Clebsch-Gordan
# coefficients in 0.5. A program that offers both potentials needs two environments.
#
# Seen, Python 3.11: the requirements "e3nn>=0.5.0" and "e3nn==0.4.4", and pip's ResolutionImpossible.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check --no-deps sevenn==0.13.0 mace-torch==0.3.16
env/bin/python - <<'PYTHON'
from importlib.metadata import requires

found = {
    name: [line for line in requires(name) if line.startswith("e3nn") and "extra" not in line]
    for name in ("sevenn", "mace-torch")
}
print(found)
assert found == {"sevenn": ["e3nn>=0.5.0"], "mace-torch": ["e3nn==0.4.4"]}, found
PYTHON
if env/bin/pip install --disable-pip-version-check --dry-run \
  sevenn==0.13.0 mace-torch==0.3.16 > pip.log 2>&1; then
  echo "pip installs both" >&2
  exit 1
fi
grep -o ResolutionImpossible pip.log

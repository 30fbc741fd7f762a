#!/usr/bin/env bash
# hatchling 1.33.0 builds a wheel without files that git tracks.
#
# Git applies .gitignore to untracked files only: a file that was added in spite of a pattern (or
# before it, or by `git mv`) stays tracked and is in every clone. hatchling reads .gitignore by
# itself, does not ask git what is tracked, and leaves such files out of the wheel without a
# warning, even where the package's folder is named under `packages`. A line `runs/` that is meant
# for a folder of results at the top thus removes a sub-package `tool/runs` from the distribution:
# the editable install and all tests in the checkout work, `pip install .` ends in ImportError.
#
# Seen: git ls-files prints pkg/tool/runs/reader.py; the wheel holds tool/__init__.py alone.
# With `/runs/` (anchored at the top) the wheel holds both.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check hatchling==1.33.0
mkdir -p pkg/tool/runs
cd pkg
printf '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]\nname = "tool"\nversion = "1"\n[tool.hatch.build.targets.wheel]\npackages = ["tool"]\n' > pyproject.toml
touch tool/__init__.py tool/runs/__init__.py
echo 'x = 1' > tool/runs/reader.py
echo 'runs/' > .gitignore
git init --quiet .
git add --force .
git ls-files | grep --quiet --line-regexp tool/runs/reader.py

names() {
  rm -rf dist
  ../env/bin/hatchling build --target wheel > /dev/null 2>&1
  ../env/bin/python -c 'import glob, zipfile; print(*sorted(n for n in zipfile.ZipFile(glob.glob("dist/*.whl")[0]).namelist() if n.startswith("tool/")))'
}

left_out=$(names)
echo "runs/ in .gitignore:  $left_out"
echo '/runs/' > .gitignore
kept=$(names)
echo "/runs/ in .gitignore: $kept"
[ "$left_out" = "tool/__init__.py" ]
[ "$kept" = "tool/__init__.py tool/runs/__init__.py tool/runs/reader.py" ]

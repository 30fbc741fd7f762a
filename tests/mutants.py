"""Mutation testing of the core by mutmut: a sample of mutants, and how many the tests kill.

python tests/mutants.py COUNT SEED [MODULE ...], in a folder with src/ and tests/ (`make mutants`).
What has been killed there before is not tried again.
"""

import random
import sys
from collections import Counter, defaultdict

from mutmut import __main__ as mutmut
from mutmut.stats import status_by_exit_code

KILLED = ("killed", "timeout", "segfault", "suspicious")
"""A program that ends otherwise than the tests expect is noticed as well."""

NOT_RUN = 255
"""The exit code where pytest itself fails, which mutmut calls a timeout."""


def results() -> dict[str, str]:
    """Return what became of every mutant."""
    found = {}
    for path in mutmut.walk_mutatable_files():
        data = mutmut.SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            found[name] = "not run" if code == NOT_RUN else status_by_exit_code[code]
    return found


def generate() -> list[str]:
    """Write all mutants; returns their names."""
    mutmut.makedirs(mutmut.Path("mutants"), exist_ok=True)
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.create_mutants(1)
    return sorted(results())


def main() -> None:
    """Try a sample of the mutants; print the survivors and the table."""
    count, seed, *modules = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    names = [n for n in generate() if not modules or n.rpartition(".")[0] in modules]
    sample = random.Random(seed).sample(names, min(count, len(names)))
    before = results()
    left = [name for name in sample if before[name] not in KILLED]
    if left:
        mutmut._run(left, 1)
    outcomes = {name: outcome for name, outcome in results().items() if name in sample}
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for name, outcome in outcomes.items():
        module = name.rpartition(".")[0]
        table[module]["killed" if outcome in KILLED else "left"] += 1
        if outcome not in KILLED:
            print(f"{outcome}: {name}")
    print("| module | mutants | tried | killed |\n|---|---|---|---|")
    for module, found in sorted(table.items()):
        there = sum(name.startswith(f"{module}.") for name in names)
        print(f"| {module} | {there} | {found.total()} | {found['killed']} |")
    killed = sum(found["killed"] for found in table.values())
    print(f"{killed} of {len(outcomes)} killed, a sample of {len(names)} with seed {seed}")


if __name__ == "__main__":
    main()

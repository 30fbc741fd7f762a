"""Try damaged inputs, and count what became of them.

python -m tests.integration.faults.trial 2000 [seed] [door ...]
"""

import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.integration.faults.doors import DOORS, Door, Sources

PATIENCE = 10
"""Seconds after which an input counts as a hang."""
REFUSALS = (ValueError, OSError)


class Hang(BaseException):
    """An input kept its door busy for too long."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise Hang after so many seconds of this process's CPU."""

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def attempt(door: Door, sources: Sources, place: Path, seed: Sequence[int]) -> tuple[str, str]:
    """One try in an empty folder: refused, accepted, hang or traceback, and the reason."""
    place.mkdir()
    here = Path.cwd()
    os.chdir(place)
    try:
        with contextlib.redirect_stderr(io.StringIO()), at_most(PATIENCE):
            door(sources, place, np.random.default_rng(seed))
    except REFUSALS as error:
        if isinstance(error, ValueError) and not str(error).strip():
            return "traceback", "an error without words"
        return "refused", str(error)
    except Hang:
        return "hang", ""
    except (Exception, SystemExit, KeyboardInterrupt):
        return "traceback", traceback.format_exc()
    finally:
        os.chdir(here)
        foreign = [p for p in (place / "was_here", here / "was_here") if p.exists()]
        shutil.rmtree(place, ignore_errors=True)
        assert not foreign, "a file ran code"
    return "accepted", ""


def tries(
    count: int, seed: int, sources: Sources, home: Path, doors: Sequence[Door] = ()
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Try `count` inputs; returns the outcomes of each door, and every fault with its seed."""
    weights = {door: DOORS[door] for door in doors or DOORS}
    order = [door for door, weight in weights.items() for _ in range(weight)]
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    faults = []
    for k in range(count):
        door = order[k % len(order)]
        number = [seed, k]
        outcome, reason = attempt(door, sources, home / f"try{k}", number)
        outcomes[door.__name__][outcome] += 1
        if outcome in ("traceback", "hang"):
            faults.append(f"{door.__name__}, seed {number}: {outcome}\n{reason}")
    return outcomes, faults


def main() -> None:
    """Try many inputs, print every fault once and the table."""
    from tests.integration.faults.doors import make_sources
    from tests.tiny import make_world, no_pictures

    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    doors = [door for door in DOORS if door.__name__ in sys.argv[3:]]
    with tempfile.TemporaryDirectory() as folder, no_pictures():
        home = Path(folder)
        sources = make_sources(make_world(home / "world"), _made(home / "sources"))
        started = time.monotonic()
        outcomes, faults = tries(count, seed, sources, _made(home / "tries"), doors)
    kinds = Counter(fault.strip().splitlines()[-1] for fault in faults)
    print("\n\n".join(faults))
    for kind, n in kinds.most_common():
        print(f"{n:5} {kind[:150]}")
    print("| door | tries | refused | accepted | traceback | hang |\n|---|---|---|---|---|---|")
    for name, found in outcomes.items():
        cells = [found.total(), *(found[o] for o in ("refused", "accepted", "traceback", "hang"))]
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    print(f"{count} tries in {time.monotonic() - started:.0f} s")
    sys.exit(bool(faults))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()

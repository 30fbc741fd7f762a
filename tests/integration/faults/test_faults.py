"""Damaged and hostile inputs over all doors: refused in a sentence or read rightly, never more.

`make faults` tries many thousands; here are as many as take a minute, the same each time.
"""

import pytest

from tests.integration.faults.doors import (
    DOORS,
    array_set,
    compared,
    inspected,
    loaded,
    make_sources,
    mirrored,
    overrides,
    structure_file,
)
from tests.integration.faults.trial import tries

QUICK = (inspected, compared, mirrored, loaded, array_set, structure_file, overrides)


@pytest.fixture(scope="module")
def sources(world, tmp_path_factory):
    return make_sources(world, tmp_path_factory.mktemp("sources"))


def test_files_are_refused_or_read(sources, tmp_path):
    outcomes, faults = tries(270, 20, sources, tmp_path, QUICK)
    assert not faults, "\n\n".join(faults)
    for door in QUICK:
        found = outcomes[door.__name__]
        assert found["refused"], f"{door.__name__} refuses nothing"
        if door is not overrides:  # most of these values are of no key
            assert found["accepted"], f"{door.__name__} takes nothing"


@pytest.mark.slow
def test_commands_on_damaged_folders(sources, tmp_path):
    slow = [door for door in DOORS if door not in QUICK]
    outcomes, faults = tries(30, 21, sources, tmp_path, slow)
    assert not faults, "\n\n".join(faults)
    assert sum(found["refused"] for found in outcomes.values())

"""`python -m sdedata` describes the shipped sets correctly."""

import json
import re
import subprocess
import sys

import pytest

from sdedata import shipped
from sdedata.__main__ import main


def printed(capsys, *arguments: str) -> str:
    main(arguments)
    return capsys.readouterr().out


def test_list_as_json_is_true(capsys):
    listed = {one["name"]: one for one in json.loads(printed(capsys, "list", "--json"))}
    assert set(listed) == {n for n in shipped.names() if not n.endswith("_frames")}
    for name, one in listed.items():
        data = shipped.load(name)
        assert (one["minima"], one["digest"]) == (len(data), data.digest)
        assert one["compositions"] == sorted(set(data.compositions))
        assert one["cell"] == data.meta["template"]["slab"]
        assert one["calculator"] == "corrected path=silver_oxide_pbe"
        assert set(one) == {
            "name", "minima", "frames", "compositions", "cell", "calculator", "digest"
        }  # fmt: skip
    assert listed["rss_c2x8"]["frames"] == len(shipped.load("rss_c2x8_frames"))


def test_list_for_people_names_every_set(capsys):
    lines = printed(capsys, "list").splitlines()
    assert len(lines) == 2 + len(json.loads(printed(capsys, "list", "--json")))
    assert lines[0].startswith("| name | minima | frames |")


@pytest.mark.parametrize("name", shipped.names())
def test_show_prints_counts_and_provenance(capsys, name):
    text, data = printed(capsys, "show", name), shipped.load(name)
    assert f"- structures: {len(data)}" in text
    assert f"- digest: {data.digest}" in text
    if name.startswith(shipped.SEARCH):
        assert f"- seed: {data.meta['seed']}" in text
    assert "| stoichiometry | D | D_lowE |" in text
    assert "# Datasheet" in text


def test_show_counts_the_paper_s_sets_as_the_datasheet_does(capsys):
    text = printed(capsys, "show", "rss_c2x8")
    own, sheet = text.split("# Datasheet")

    def rows(part):
        table = [re.split(r" *\| *", line)[1:-1] for line in part.splitlines() if "|" in line]
        return {row[0]: row[1:] for row in table}

    counted, stated = rows(own), rows(sheet)
    assert counted["all"] == stated["all"][-4:] == ["4068", "557", "236", "321"]
    for name in counted.keys() - {"stoichiometry", "all", "---"}:
        assert counted[name] == stated[name][-4:]


def test_an_unknown_set_is_one_sentence_and_exit_code_2():
    ended = subprocess.run(
        [sys.executable, "-m", "sdedata", "show", "rss_p9x9"], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("sdedata: no shipped set 'rss_p9x9': there are ag6_")
    assert ended.stderr.count("\n") == 1

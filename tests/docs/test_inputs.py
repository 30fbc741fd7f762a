"""Each row of docs/inputs.md names tests that exist, and its counts are those of the tests."""

import ast
import re

from tests.docs.documents import ROOT, text
from tests.unit.sdedata.test_files import FORMATS, ONE_PROCESS

PAGE = "docs/inputs.md"


def test_every_row_names_its_test():
    rows = [line for line in text(PAGE).splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 19
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            assert test in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, row


def test_the_number_of_examples_is_that_of_the_tests():
    stated = re.search(r"(\d+) random structures for each of (.*?), and (\d+)", text(PAGE), re.S)
    assert int(stated[1]) == int(stated[3]) == ONE_PROCESS.max_examples
    assert re.split(r", | and ", stated[2]) == list(FORMATS)

"""What tests of pages share."""

import pytest

from tests.integration.harness.browser import CHROMIUM, Browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser

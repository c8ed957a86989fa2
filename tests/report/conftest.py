"""The browser that drives pages; without one on the machine such tests are skipped."""

import pytest
from chromium import Browser, find_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find_chromium() is None:
        pytest.skip("no Chromium or Chrome on this machine")
    try:
        opened = Browser(find_chromium(), tmp_path_factory.mktemp("profile"))
    except (RuntimeError, TimeoutError, BrokenPipeError) as error:
        pytest.skip(f"{find_chromium()} does not start here: {error}")
    yield opened
    opened.close()

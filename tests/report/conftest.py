"""One page for all tests of a process: of a study that nobody trained, with a name that must not be believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_support import Browser, find_browser
from report_support import facts

from harness.report.write import write_page

NAME = "<script>alert(1)</script> & $\\frac{x}$"


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(facts(name=NAME), path)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    binary = find_browser()
    if binary is None:
        pytest.skip("there is no Chromium")
    with Browser(binary, tmp_path_factory.mktemp("profile"), seconds=60) as found:
        yield found

"""The page of a log in a real browser: it fits, it is quiet, its tables sort, its rollouts open."""

import pytest

from rekindle.report.log_page import render_logs
from rekindle.signals.run_diagnosis.compare import pair_logs
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
from synthetic_logs import fair, hard, make_trl, make_verl

READY = "document.documentElement.dataset.figures"
CARDS = "document.getElementById('cards')"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    place = tmp_path_factory.mktemp("logs")
    paths = [make_verl(place / "hard", rate=hard, long=True), make_trl(place / "fair", rate=fair)]
    told = [diagnose_log(path) for path in paths]
    for name, some in (("one", 1), ("two", 2)):
        html = render_logs(paths[:some], told[:some], pair_logs(told[:some]))
        (place / f"{name}.html").write_bytes(html.encode("utf-8", "replace"))
    return place


@pytest.fixture
def page(browser, pages):
    browser.open(pages / "two.html")
    browser.wait_for(READY, 60)
    yield browser
    assert browser.problems == []
    assert browser.requests == [(pages / "two.html").resolve().as_uri()]


@pytest.mark.parametrize(("name", "width", "dark"), [
    ("one", 1280, False), ("two", 1280, True), ("one", 420, True), ("two", 420, False),
])  # fmt: skip
def test_it_fits_and_is_quiet(browser, pages, name, width, dark):
    browser.open(pages / f"{name}.html", width=width, dark=dark)
    browser.wait_for(f"{READY} === 'drawn'", 60)
    assert browser.problems == []
    assert browser.ask("document.documentElement.scrollWidth") <= width, "scrolls sideways"
    drawn = browser.ask("document.querySelectorAll('.chart svg').length")
    assert drawn == browser.ask("document.querySelectorAll('.chart').length") >= 3
    assert browser.ask("typeof window.HACKED") == "undefined"
    outside = f"""[...document.querySelectorAll('main *, header *')].filter((e) => {{
        const box = e.getBoundingClientRect();
        return box.width && box.right > {width} + 1 && !e.closest('.scroll, .chart, .hidden, pre')
          && !e.closest('.start'); }}).map((e) => e.outerHTML.slice(0, 90))"""
    assert browser.ask(outside) == []


def test_a_table_sorts_by_numbers_both_ways(page):
    table = "document.querySelectorAll('table.sortable')[1]"
    rates = f"[...{table}.tBodies[0].rows].map((r) => Number(r.cells[5].dataset.value))"
    before = page.ask(rates)
    button = f"{table}.tHead.rows[0].cells[5].querySelector('button')"
    page.ask(f"{button}.click()")
    assert page.ask(rates) == sorted(before)
    assert page.ask(f"{button}.closest('th').getAttribute('aria-sort')") == "ascending"
    page.ask(f"{button}.click()")
    assert page.ask(rates) == sorted(before, reverse=True)
    page.ask(f"{table}.tHead.rows[0].cells[0].querySelector('button').click()")
    assert page.ask(f"{table}.querySelectorAll('[aria-sort]').length") == 1


def test_a_finding_leads_to_its_rollouts(page):
    shown = f"{CARDS}.dataset.shown"
    before = page.ask(shown)
    page.ask("document.querySelector('button[data-why=mixed][data-log=fair]').click()")
    page.wait_for(f"Number({shown}) > {before} + 1")
    cards = page.ask(f"[...{CARDS}.querySelectorAll('header')].map((e) => e.innerText)")
    assert cards
    assert all("mixed groups" in card and "fair" in card for card in cards)


def test_an_answer_opens_to_its_text_and_its_place(page):
    first = f"{CARDS}.querySelector('.answers details')"
    assert page.ask(f"{first}.querySelectorAll('pre').length") == 0
    page.ask(f"{first}.open = true")
    page.wait_for(f"{first}.querySelector('pre')")
    words = page.ask(f"{first}.innerText")
    assert "row" in words
    assert "score" in words


def test_every_control_and_picture_has_a_name(page):
    kinds = "button, select, input, summary, [role=img], [role=region]"
    nameless = page.ask(
        f"""[...document.querySelectorAll('{kinds}')]
        .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label')
          || (e.labels && e.labels.length))).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    bare = "[...document.querySelectorAll('main table')].filter((t) => !t.caption"
    assert page.ask(f"{bare} && !t.closest('.chart')).length") == 0
    ids = page.ask("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(set(ids)) == len(ids)


def test_on_paper_all_is_open(page):
    page.call("Emulation.setEmulatedMedia", media="print")
    page.ask("dispatchEvent(new Event('beforeprint'))")
    assert page.ask("document.querySelectorAll('details.printed:not([open])').length") == 0
    cut = (
        "[...document.querySelectorAll('.tall')].filter((e) => e.scrollHeight > e.clientHeight + 1)"
    )
    assert page.ask(f"{cut}.length") == 0
    page.ask("dispatchEvent(new Event('afterprint'))")
    page.call("Emulation.setEmulatedMedia", media="")

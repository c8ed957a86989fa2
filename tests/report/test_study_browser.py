"""The page of a study in a real browser: arms, pairs, keyboard, print, contrast."""

import base64
import json
import re

import pytest
from outline import Outline
from synthetic_study import make_study

from chromium import DRAWN
from rekindle.report.page import build_report, text_of

ARMS = {"grpo": {"method": "grpo"}, "lens": {"method": "lens"}}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    study = make_study(place / "study", arms=ARMS, pairs=30)
    found = json.loads((study / "study.json").read_text())
    found["comparisons"][0]["why"] = "unequal budget: lens spent 800 updates, grpo 400"
    (study / "study.json").write_text(json.dumps(found))
    return build_report([study], place / "report.html")


@pytest.fixture
def page(browser, report):
    browser.open(report)
    browser.wait_for(DRAWN, 120)
    yield browser
    assert browser.problems == []
    assert browser.requests == [report.resolve().as_uri()]


def key(page, name, code, **more):
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code, **more)


def lines(page, figure):
    return page.ask(
        f"document.querySelectorAll('[data-figure=\"{figure}\"] .mark-line path').length"
    )


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_it_fits_a_desk_and_a_phone(browser, report, width, dark):
    browser.open(report, width=width, dark=dark)
    browser.wait_for(DRAWN, 120)
    assert browser.problems == []
    assert browser.ask("document.documentElement.scrollWidth") <= width, "scrolls sideways"
    inset = (
        "getComputedStyle(document.querySelector('#verdict .verdict {} :nth-child(2)')).paddingLeft"
    )
    head, cell = (browser.ask(inset.format(row)) for row in ("thead tr", "tr.main"))
    assert head == cell, "the heads do not stand over their columns"
    drawn = browser.ask("document.querySelectorAll('.chart svg').length")
    assert drawn == browser.ask("document.querySelectorAll('.chart').length") > 20
    words = browser.ask("document.querySelector('#verdict .verdict').innerText")
    assert "does not" in words


def test_on_a_phone_nothing_is_out_of_sight_or_out_of_line(browser, report):
    browser.open(report, width=390, dark=False)
    browser.wait_for(DRAWN, 120)
    right = (
        "Math.round(e.getBoundingClientRect().right - parseFloat(getComputedStyle(e).paddingRight))"
    )
    values = f"[...document.querySelectorAll('.verdict td[data-label]')].map((e) => {right})"
    assert len(set(browser.ask(values))) == 1
    captions = f"[...document.querySelectorAll('.scroll caption > *')].map((e) => {right})"
    declared = f"[...document.querySelectorAll('#reproduce .wrap')].map((e) => {right})"
    for found in (browser.ask(captions), browser.ask(declared)):
        assert 0 < max(found) <= 390 - 16
    labels = "[data-figure=forest-0] .role-axis-label tspan"
    assert browser.ask(f"document.querySelectorAll('{labels}').length") == 2
    title = "document.querySelector('[data-figure=forest-0] .role-axis-title')"
    assert browser.ask(f"{title}.getBoundingClientRect().right") <= 390


def test_on_paper_tables_fit_the_sheet(browser, report):
    browser.open(report, width=420)
    browser.wait_for(DRAWN, 120)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    wide = """[...document.querySelectorAll('#accuracy .scroll')]
        .map((e) => e.firstElementChild.getBoundingClientRect().width - e.clientWidth)"""
    over = browser.ask(wide)
    browser.open(report, width=720)
    browser.call("Emulation.setEmulatedMedia", media="print")
    long = """(() => { const table = document.querySelector('.verdict');
        for (const cell of table.querySelectorAll('tbody tr:not(.subject) > :nth-child(-n+2)'))
          cell.textContent = 'an_arm_of_a_rather_long_name';
        const sheet = document.querySelector('#verdict').getBoundingClientRect();
        return table.getBoundingClientRect().right - sheet.right; })()"""
    over_right = browser.ask(long)
    browser.call("Emulation.setEmulatedMedia", media="")
    assert over_right < 1
    assert len(over) == 2
    assert max(over) < 1


def test_intervals_stand_beside_their_numbers(page):
    """In a row that has more to say too."""
    found = page.ask(
        """(() => { const row = document.querySelector('.verdict tr .why').closest('tr');
        const text = document.createRange();
        text.selectNodeContents(row.querySelector('.change'));
        return [row.querySelector('.whisker').getBoundingClientRect(), text.getClientRects()[0]]
          .map((box) => box.top + box.height / 2); })()"""
    )
    assert found[0] == pytest.approx(found[1], abs=3)


def test_a_figure_that_stands_alone_is_wide(page):
    width = page.ask(
        """(() => { const figures = document.querySelector('#learning .figures');
        while (figures.children.length > 1) figures.lastElementChild.remove();
        return figures.firstElementChild.getBoundingClientRect().width; })()"""
    )
    assert width > 600


def test_without_intervals_it_is_quiet_too(browser, tmp_path):
    study = make_study(tmp_path / "study", arms=ARMS, seeds=range(1), evaluations=1)
    found = json.loads((study / "study.json").read_text())
    for row in found["comparisons"]:
        row.update(ci_low=None, ci_high=None)
    (study / "study.json").write_text(json.dumps(found))
    browser.open(build_report([study], tmp_path / "report.html"))
    browser.wait_for(DRAWN, 120)
    assert browser.problems == []


def test_an_arm_is_hidden_everywhere_by_keyboard(page):
    before = {name: lines(page, name) for name in ("learning-0-0-0", "signal-0-0")}
    assert before == {"learning-0-0-0": 2, "signal-0-0": 2}
    page.ask("document.querySelector('.legend[data-param=runs] button[data-value=lens]').focus()")
    key(page, " ", 32, text=" ")
    page.wait_for("document.querySelectorAll('[data-figure=\"signal-0-0\"] .mark-line path').length"
                  " === 1")  # fmt: skip
    page.wait_for("document.querySelectorAll('[data-figure=\"learning-0-0-0\"] .mark-line path')"
                  ".length === 1")  # fmt: skip
    pressed = page.ask(
        "[...document.querySelectorAll('.legend[data-param=runs] button[data-value=lens]')]"
        ".map((b) => b.getAttribute('aria-pressed'))"
    )
    assert set(pressed) == {"false"}
    penalty = "document.querySelector('[data-figure=\"signal-0-5\"]').className"
    assert "blank" in page.ask(penalty), "only the hidden arm logs it"


def test_what_has_the_focus_is_seen(page):
    page.ask("document.querySelector('#theme').focus()")
    key(page, "Tab", 9)
    style = "getComputedStyle(document.activeElement)"
    assert page.ask(f"{style}.outlineStyle") == "solid"
    assert page.ask(f"parseFloat({style}.outlineWidth)") >= 2


def test_pairs_are_filtered_sorted_and_whole(page):
    found = "document.getElementById('pairs-found').textContent"
    assert page.ask(found) == "60 of 60 pairs"
    shown = "document.getElementById('pairs-cards').dataset.shown"

    def choose(name, value):
        before = page.ask(shown)
        page.ask(
            f"""(() => {{ const form = document.getElementById('pairs-filters');
            form.elements['{name}'].value = '{value}';
            form.dispatchEvent(new Event('input')); }})()"""
        )
        page.wait_for(f"{shown} !== '{before}'")

    choose("run", "lens")
    assert page.ask(found) == "30 of 60 pairs"
    choose("search", "current 7 1")
    assert page.ask(found) == "1 of 60 pairs"
    card = page.ask("document.querySelector('#pairs-cards .card').innerText")
    for word in (
        "current 7 1", "initial 7 0", "marks of the judge", "4, unreadable, 4", "gap", "+2.5",
        "initial b2b2b2b2b2", "stages/04-pairs-1/rows.jsonl, line 8",
    ):  # fmt: skip
        assert word in card
    choose("search", "")
    choose("order", "narrow")
    first = page.ask("document.querySelector('#pairs-cards .card').innerText")
    assert "+1" in first.split("gap")[1].split()[0]
    cards = page.ask("document.querySelectorAll('#cards .card').length")
    assert cards == 10, "the rollouts have filters of their own"


def test_a_drawn_figure_keeps_its_role_and_its_words(page, report):
    written = {
        attrs["data-figure"]: attrs["aria-label"]
        for _, attrs in Outline(report.read_text()).tags
        if "data-figure" in attrs
    }
    named = """Object.fromEntries([...document.querySelectorAll('.chart')]
        .map((e) => [e.dataset.figure, e.getAttribute('aria-label')]))"""
    assert page.ask(named) == written
    first = "document.querySelector('[data-figure=\"learning-0-0-0\"]')"
    marks = f"{first}.querySelectorAll('.mark-symbol path').length"
    before = page.ask(marks)
    page.ask(f"{first}.dispatchEvent(new PointerEvent('pointerenter'))")
    page.wait_for(f"{marks} > {before}")  # drawn again, with what follows the pointer
    assert page.ask(named) == written
    roles = page.ask("[...document.querySelectorAll('.chart')].map((e) => e.getAttribute('role'))")
    assert set(roles) == {"img"}
    assert page.ask("document.querySelectorAll('.chart svg [aria-label]').length") == 0


def test_every_control_and_picture_has_a_name(page):
    nameless = page.ask(
        """[...document.querySelectorAll('button, select, input, [role=img], [role=region], nav')]
        .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label')
          || (e.labels && e.labels.length))).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    captions = "[...document.querySelectorAll('main table')].filter((t) => !t.caption"
    assert page.ask(f"{captions} && !t.closest('.siblings') && !t.closest('.chart')).length") == 0
    for landmark in ("main", "nav", "body > header", "body > footer"):
        assert page.ask(f"document.querySelectorAll('{landmark}').length") == 1


def test_printed_it_has_all_tables_and_figures_and_no_buttons(page):
    page.ask(
        """(() => { window.seen = {};
        addEventListener('beforeprint', () => setTimeout(() => 0));
        addEventListener('afterprint', () => { window.seen.after = true; }); })()"""
    )
    pdf = base64.b64decode(page.call("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 5
    page.call("Emulation.setEmulatedMedia", media="print")
    hidden = """[...document.querySelectorAll('%s')]
      .filter((e) => getComputedStyle(e).display !== 'none').length"""
    for useless in (".bar", "[data-copy]", ".filters", ".pager", "#theme"):
        assert page.ask(hidden % useless) == 0, useless
    page.ask("dispatchEvent(new Event('beforeprint'))")
    assert page.ask("document.querySelectorAll('details.printed:not([open])').length") == 0
    page.ask("dispatchEvent(new Event('afterprint'))")
    assert page.ask("document.querySelectorAll('details.printed[open]').length") == 0
    page.call("Emulation.setEmulatedMedia", media="")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_and_lines_stand_out_in_light_and_dark():
    """WCAG 2: 4.5 to 1 for text, 3 to 1 for the lines of arms."""
    light, dark = text_of("style.css").split('[data-theme="dark"]')
    for theme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme))

        def ratio(name, ground="paper", colours=colours):
            both = sorted(luminance(colours[n]) for n in (name, ground))
            return (both[1] + 0.05) / (both[0] + 0.05)

        for name in ("ink", "soft", "link", "good", "bad"):
            assert ratio(name) >= 4.5, name
            assert ratio(name, "panel") >= 4.5, name
        for i in range(1, 9):
            assert ratio(f"run-{i}") >= 3, i

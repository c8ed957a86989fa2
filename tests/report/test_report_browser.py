"""The page in a real browser: drawn, quiet on the console, offline, usable, and not fooled."""

import json
import time

import pytest
import synthetic_runs as synthetic

from chromium import DRAWN
from rekindle.report.page import build_report


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def report(place):
    runs = [
        synthetic.make_run(place / "grpo-countdown", hostile=True),
        synthetic.make_run(place / "sft-addition", method="sft", task="addition", steps=40),
        synthetic.make_run(place / "grpo-half", gain=-0.8, steps=40, planned=100),
    ]
    return build_report(runs, place / "report.html")


@pytest.fixture
def page(browser, report):
    """The report, opened wide and light; nothing may go wrong in it."""
    browser.open(report)
    yield browser
    assert browser.problems == []


def choose(page, **wanted):
    """Set filters as a user does, and wait until they are applied."""
    before = page.ask("document.getElementById('cards').dataset.shown")
    page.ask(
        f"""(() => {{ const form = document.getElementById('filters');
        for (const [name, value] of Object.entries({json.dumps(wanted)}))
          form.elements[name].value = value;
        form.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"""
    )
    page.wait_for(f"document.getElementById('cards').dataset.shown !== {json.dumps(before)}")


def found(page):
    return int(
        page.ask("document.getElementById('found').textContent.split(' ')[0]").replace(",", "")
    )


def texts(page):
    return page.ask("[...document.querySelectorAll('.text.answer pre')].map((p) => p.textContent)")


def visible(text):
    """The text with what cannot be seen written out, as the page must show it."""
    for char in "\u202e\u202c\u2067\u2069\u200b\u2028\u2029":
        text = text.replace(char, f"U+{ord(char):04X}")
    for code in range(32):
        text = text.replace(chr(code), chr(0x2400 + code))
    return text


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_quietly_offline_and_fits(browser, report, width, dark):
    browser.open(report, width=width, dark=dark)
    browser.wait_for(DRAWN)
    assert browser.problems == []
    assert browser.requests == [report.resolve().as_uri()]
    places = browser.ask("document.querySelectorAll('.chart').length")
    assert places == browser.ask("document.querySelectorAll('.chart svg').length") > 20
    assert browser.ask("document.documentElement.scrollWidth") <= width, "scrolls sideways"
    assert browser.ask("typeof window.HACKED") == "undefined"
    ground = browser.ask("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(x) for x in ground.strip("rgb()").split(",")) / 3
    assert (brightness < 60) if dark else (brightness > 230)


def test_a_page_with_nothing_to_draw_is_quiet_too(browser, place):
    bare = place / "bare"
    synthetic.write(bare / "metrics.jsonl", "")
    browser.open(build_report([bare], place / "bare.html"))
    browser.wait_for("document.documentElement.dataset.figures === 'none'")
    assert browser.problems == []


def test_filters_and_search_find_what_they_should(page, place):
    rows = [
        json.loads(line)
        for run in ("grpo-countdown", "grpo-half")
        for line in (place / run / "samples.jsonl").read_text().splitlines()
    ]
    assert found(page) == len(rows)
    choose(page, step="12")
    assert found(page) == sum(row["step"] == 12 for row in rows)
    choose(page, run="grpo-half", step="", level="4", **{"class": "mixed"}, result="wrong")
    wanted = [
        row
        for row in rows[100 * 16 :]
        if (row["level"], row["group_class"], row["score"]) == ("4", "mixed", 0.0)
    ]
    assert found(page) == len(wanted) > 10
    assert texts(page) == [row["text"] for row in wanted[:10]]
    choose(page, run="", level="", **{"class": ""}, result="missing")
    assert found(page) == sum(row["missing"] is not None for row in rows)
    assert "missing: verifier: out of time" in page.ask("document.querySelector('.card').innerText")
    choose(page, result="", search="TARGET 1")
    assert found(page) == sum("target 1" in row["prompt"] for row in rows)
    choose(page, search="", order="high")
    shown = page.ask("document.querySelector('.card .numbers').innerText")
    top = max(row["advantage"] for row in rows)
    assert f"+{top:g}" in shown


def test_pages_turn(page):
    first = texts(page)
    assert len(first) == 10
    assert page.ask("document.getElementById('previous').disabled") is True
    page.ask("document.getElementById('next').click()")
    assert page.ask("document.getElementById('place').textContent").startswith("page 2 of ")
    page.ask("document.getElementById('previous').click()")
    assert texts(page) == first


def test_hostile_text_is_shown_and_named_not_obeyed(page):
    for step, hostile in enumerate(synthetic.HOSTILE[:5], start=1):
        choose(page, run="grpo-countdown", step=str(step))
        assert texts(page)[0] == visible(hostile)
    choose(page, step="7")
    assert "994,013 characters are left out here" in texts(page)[0]
    assert page.ask("typeof window.HACKED") == "undefined"
    assert page.ask("document.querySelectorAll('.card script, .card img, .card svg').length") == 0


def test_a_rollout_shows_its_group(page):
    page.ask("document.querySelector('.siblings').open = true")
    page.wait_for("document.querySelector('.siblings tbody tr')")
    cells = page.ask("[...document.querySelectorAll('.siblings tbody td:first-child')]"
                     ".slice(0, 8).map((td) => td.textContent)")  # fmt: skip
    assert cells == [str(i) for i in range(8)]


def test_a_legend_hides_a_run_in_every_figure(page):
    page.wait_for(DRAWN)
    lines = "document.querySelectorAll('[data-figure=\"learning-0-0-0\"] .mark-line path').length"
    before = page.ask(lines)
    page.ask("document.querySelector('.legend[data-param=runs] button').click()")
    page.wait_for(f"{lines} < {before}")
    states = page.ask(
        "[...document.querySelectorAll('.legend[data-param=runs]')]"
        ".map((l) => l.querySelector('button').getAttribute('aria-pressed'))"
    )
    assert states == ["false"] * 3, "the legends agree"
    page.ask("document.querySelector('.legend[data-param=runs] button').click()")
    page.wait_for(f"{lines} === {before}")


def test_pointing_at_a_curve_tells_the_number(page, place):
    page.wait_for(DRAWN)
    box = page.ask(
        """(() => { const place = document.querySelector('[data-figure="learning-0-0-0"]');
        place.scrollIntoView({ block: 'center', behavior: 'instant' });
        const { x, y, width, height } = place.getBoundingClientRect();
        return [x, y, width, height]; })()"""
    )
    tooltip = "Boolean(document.querySelector('#vg-tooltip-element.visible'))"
    for move in range(100):
        x, y = box[0] + box[2] - 12 - move % 2, box[1] + 60
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if page.ask(tooltip):
            break
        time.sleep(0.05)
    cell = json.loads((place / "grpo-countdown" / "eval.json").read_text())["metrics"]["pass@1"]
    told = page.ask("document.querySelector('#vg-tooltip-element').innerText")
    assert "grpo-countdown" in told
    assert f"{100 * cell['value']:.1f} %" in told
    assert f"n = {cell['n']}" in told


def test_the_theme_button_turns_the_page(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.ask(ground)
    label = "document.getElementById('theme').textContent"
    assert page.ask(label) == "Theme: auto"
    page.ask("document.getElementById('theme').click()")
    assert (page.ask(label), page.ask(ground)) == ("Theme: light", light)
    page.ask("document.getElementById('theme').click()")
    assert page.ask(label) == "Theme: dark"
    assert page.ask(ground) != light
    page.ask("document.getElementById('theme').click()")


def test_the_keyboard_comes_in_by_the_skip_link(page):
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", windowsVirtualKeyCode=9)
    page.call("Input.dispatchKeyEvent", type="keyUp", key="Tab", windowsVirtualKeyCode=9)
    assert page.ask("document.activeElement.className") == "skip"
    assert page.ask("document.activeElement.getBoundingClientRect().x") >= 0


def test_two_thousand_rollouts_filter_at_once(page):
    assert found(page) > 2000
    took = page.ask(
        """(async () => { const form = document.getElementById('filters');
        const shown = () => document.getElementById('cards').dataset.shown;
        const before = shown(); const began = performance.now();
        form.elements.search.value = '= 2'; form.dispatchEvent(new Event('input'));
        while (shown() === before) await new Promise((r) => setTimeout(r, 5));
        return performance.now() - began; })()"""
    )
    assert took < 1000, "includes 100 ms of waiting for the typist"

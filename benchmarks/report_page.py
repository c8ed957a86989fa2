"""The page of a study of 5 arms x 8 seeds x 200 evaluations and 2,000 rollouts: bytes, and seconds
until it is open in headless Chromium.

Targets: under 4 MB, and under 2 s until the verdict is there. Four moments are told, each from the
start of the navigation:

    verdict    the first table is painted (first contentful paint: it stands in the first bytes)
    loaded     the load event: all scripts have run, filters work
    in sight   the figures in sight are drawn
    drawn      every figure of the page is drawn

Each opening is a fresh navigation of the file in one browser; the fastest and the median are told,
for others waited for the machine. `cpu` is what the page's main thread itself needed until then:
on a busy machine the only figure that says something of the page. `--quick`: 2 openings.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from _machine import describe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
LIMIT_BYTES, LIMIT_SECONDS = 4_000_000, 2.0
MOMENTS = """(() => {
  const paint = performance.getEntriesByName('first-contentful-paint')[0];
  const shown = (name) => performance.getEntriesByName(name)[0]?.startTime ?? null;
  const load = performance.getEntriesByType('navigation')[0].loadEventEnd;
  return { verdict: paint?.startTime ?? null, loaded: load, in_sight: shown('figures in sight'),
           drawn: shown('figures drawn') };
})()"""


def moments(browser: object, page: Path) -> dict[str, float]:
    """Seconds of each moment of one opening."""
    browser.call("Performance.enable", timeDomain="threadTicks")
    browser.call("Page.navigate", url="about:blank")  # the next page gets a process of its own
    browser.open(page)
    opened = busy(browser)
    browser.wait_for("document.documentElement.dataset.figures === 'drawn'", 120)
    found = {name: value / 1000 for name, value in browser.ask(MOMENTS).items()}
    return {**found, "cpu_loaded": opened, "cpu_drawn": busy(browser)}


def busy(browser: object) -> float:
    """CPU seconds of the page's main thread since its process began."""
    metrics = browser.call("Performance.getMetrics")["metrics"]
    return next(item["value"] for item in metrics if item["name"] == "TaskDuration")


def main() -> None:
    """Print a line each and the JSON object."""
    from synthetic_study import make_study

    from chromium import Browser, find_chromium
    from rekindle.report.page import build_report

    times = 2 if "--quick" in sys.argv else 7
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "study"
        make_study(place, seeds=range(8), evaluations=200, rollouts=400, text=250)
        began, cpu = time.perf_counter(), time.process_time()
        page = build_report([place], Path(folder) / "report.html")
        making = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        size = page.stat().st_size
        browser = Browser(find_chromium(), Path(folder) / "profile")
        found = [moments(browser, page) for _ in range(times)]
        browser.close()
    seconds = {
        name: {
            "min": min(f[name] for f in found),
            "median": statistics.median(f[name] for f in found),
        }
        for name in found[0]
    }
    print(f"page     {size / 1e6:.2f} MB (at most {LIMIT_BYTES / 1e6:.0f}), made in "
          f"{making['cpu']:.1f} s of CPU time")  # fmt: skip
    for name, value in seconds.items():
        print(f"{name:<10} {value['min']:.2f} s fastest, {value['median']:.2f} s median")
    result = {
        "benchmark": "report_page",
        "ratio_bytes": LIMIT_BYTES / size,
        "ratio_verdict": LIMIT_SECONDS / seconds["verdict"]["median"],
        "ratio_loaded": LIMIT_SECONDS / seconds["loaded"]["median"],
        "bytes": size,
        "seconds": seconds,
        "making": making,
        "openings": times,
        "machine": describe(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

// Figures, their legends, and the copy buttons.
(() => {
  "use strict";
  const specs = JSON.parse(document.getElementById("figures-data").textContent);
  const views = [];
  const chosen = {}; // param -> values that are shown

  const font = getComputedStyle(document.body).fontFamily;
  const config = {
    background: "transparent",
    font,
    padding: { left: 2, right: 6, top: 4, bottom: 2 },
    view: { stroke: null },
    axis: {
      labelColor: "var(--soft)", titleColor: "var(--soft)", domainColor: "var(--rule)",
      tickColor: "var(--rule)", gridColor: "var(--line)", labelFontSize: 11, titleFontSize: 11,
      titleFontWeight: "normal", tickSize: 4, labelOverlap: true, tickCount: 5,
    },
    axisX: { grid: false },
    line: { strokeCap: "round", strokeJoin: "round" },
  };
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, config,
    tooltip: { disableDefaultStyle: true }, loader: { http: {} },
  };

  async function draw(place) {
    const spec = specs[place.dataset.figure];
    if (!spec || place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    const { view } = await window.vegaEmbed(place, spec, options);
    views.push({ view, params: (spec.params || []).map((param) => param.name) });
    for (const param of Object.keys(chosen)) await show(param, views.slice(-1));
  }

  async function show(param, among = views) {
    for (const { view, params } of among) {
      if (params.includes(param)) await view.signal(param, chosen[param]).runAsync();
    }
  }

  function legends() {
    for (const legend of document.querySelectorAll(".legend")) {
      const param = legend.dataset.param;
      legend.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        if (!button) return;
        const every = [...legend.querySelectorAll("button")].map((b) => b.dataset.value);
        const now = new Set(chosen[param] || every);
        if (!now.delete(button.dataset.value)) now.add(button.dataset.value);
        chosen[param] = now.size ? every.filter((value) => now.has(value)) : every;
        for (const twin of document.querySelectorAll(`.legend[data-param="${param}"] button`)) {
          twin.setAttribute("aria-pressed", String(chosen[param].includes(twin.dataset.value)));
        }
        show(param);
      });
    }
  }

  function figures() {
    const places = [...document.querySelectorAll(".chart")];
    for (const place of places) {
      const spec = specs[place.dataset.figure];
      if (spec) place.style.minHeight = `${spec.height + 30}px`;
    }
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
      }
    }, { rootMargin: "400px" });
    places.forEach((place) => seen.observe(place));
    // What is out of sight is drawn when there is time, so that printing and searching find it.
    const later = window.requestIdleCallback || ((work) => setTimeout(work, 30));
    const next = async () => {
      const place = places.find((p) => !p.dataset.drawn);
      if (!place) { document.documentElement.dataset.figures = "drawn"; return; }
      await draw(place);
      later(next);
    };
    later(next);
  }

  function copying() {
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", async () => {
        const source = document.getElementById(button.dataset.copy);
        try {
          await navigator.clipboard.writeText(source.textContent);
        } catch {
          getSelection().selectAllChildren(source);
          document.execCommand("copy");
        }
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
    }
  }

  legends();
  copying();
  if (window.vegaEmbed) figures();
  else document.documentElement.dataset.figures = "none";
})();

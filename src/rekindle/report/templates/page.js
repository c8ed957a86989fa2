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
      titleFontWeight: "normal", tickSize: 4, labelOverlap: true, labelSeparation: 5,
      tickCount: 5,
    },
    aria: false, // a figure is one picture with one name: its place has it
    axisX: { grid: false },
    line: { strokeCap: "round", strokeJoin: "round" },
  };
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, config,
    tooltip: { disableDefaultStyle: true }, loader: { http: {} },
  };

  // Data come by columns (Figure.packed); Vega wants rows.
  function unpack(spec) {
    const { rows, columns } = spec.data.values;
    const names = Object.keys(columns);
    spec.data.values = Array.from({ length: rows }, (_, i) => {
      const row = {};
      for (const name of names) {
        const cells = columns[name];
        row[name] = cells.texts ? cells.texts[cells.at[i]] : cells[i];
      }
      return row;
    });
    return spec;
  }

  // What follows the pointer costs a mark for each point, so a figure gets it when it is pointed at.
  const follows = (layer) => (layer.params || []).some((param) => param.name === "pointed");

  async function draw(place) {
    if (!specs[place.dataset.figure] || place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    const spec = unpack(specs[place.dataset.figure]);
    const still = spec.layer.filter((layer) => !follows(layer));
    await embed(place, { ...spec, layer: still });
    if (still.length < spec.layer.length) {
      place.addEventListener("pointerenter", () => embed(place, spec), { once: true });
    }
  }

  async function embed(place, spec) {
    const old = views.findIndex((one) => one.place === place);
    const name = place.getAttribute("aria-label");
    const { view } = await window.vegaEmbed(place, spec, options);
    // Vega gives its element another role, and "Vega visualization" for a name.
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", name);
    place.removeAttribute("aria-roledescription");
    if (old >= 0) views.splice(old, 1)[0].view.finalize();
    const params = Object.fromEntries((spec.params || []).map((param) => [param.name, param.value]));
    views.push({ place, view, params });
    for (const param of Object.keys(chosen)) await show(param, views.slice(-1));
  }

  // A figure none of whose lines are chosen is blank: of nothing, Vega has no axis.
  async function show(param, among = views) {
    for (const { place, view, params } of among) {
      if (!params[param]) continue;
      const left = params[param].some((value) => chosen[param].includes(value));
      place.classList.toggle("blank", !left);
      if (left) await view.signal(param, chosen[param]).runAsync();
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
    const charts = [...document.querySelectorAll(".chart")];
    for (const place of charts) {
      const spec = specs[place.dataset.figure];
      if (spec) place.style.minHeight = `${spec.height + 30}px`;
    }
    let first = true;
    const seen = new IntersectionObserver(async (entries) => {
      const near = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
      const began = first;
      first = false;
      for (const place of near) { seen.unobserve(place); await draw(place); }
      if (began) performance.mark("figures in sight");
    }, { rootMargin: "400px" });
    charts.forEach((place) => seen.observe(place));
    // What is out of sight is drawn next, so that printing and searching find it.
    // Not when idle: between two figures, each a few hundredths of a second, the page answers anyway.
    const later = (work) => setTimeout(work, 0);
    const next = async () => {
      const place = charts.find((p) => !p.dataset.drawn);
      if (!place) {
        performance.mark("figures drawn");
        document.documentElement.dataset.figures = "drawn";
        return;
      }
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

  // What is folded away is part of the printed page.
  function printing() {
    let opened = [];
    addEventListener("beforeprint", () => {
      opened = [...document.querySelectorAll("details.printed:not([open])")];
      for (const details of opened) details.open = true;
    });
    addEventListener("afterprint", () => {
      for (const details of opened) details.open = false;
      opened = [];
    });
  }

  legends();
  copying();
  printing();
  if (window.vegaEmbed) figures();
  else document.documentElement.dataset.figures = "none";
})();

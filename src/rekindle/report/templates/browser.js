// The rollout browser. Model text reaches the page through textContent only.
(() => {
  "use strict";
  const form = document.getElementById("filters");
  if (!form) return;
  const PAGE = 10;
  const piles = JSON.parse(document.getElementById("rollouts-data").textContent);
  const rollouts = piles.flatMap((pile) => pile.rows.map((row) => unpack(pile, row)));
  let found = rollouts;
  let page = 0;
  let renders = 0;

  function unpack(pile, row) {
    const item = { run: pile.run };
    pile.columns.forEach((column, i) => { item[column] = row[i]; });
    [item.problem, item.level, item.promptText, item.answer] = pile.prompts[item.prompt];
    item.result = item.score === null ? "missing"
      : item.score >= 1 ? "right" : item.score > 0 ? "partly right" : "wrong";
    return item;
  }

  // --- small builders

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Characters that are not seen, or that reorder the line: shown by name instead.
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

  function named(char) {
    const code = char.codePointAt(0);
    if (code < 32) return String.fromCodePoint(0x2400 + code);
    return code === 127 ? "␡" : `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  }

  function write(element, text) {
    let from = 0;
    for (const match of text.matchAll(HIDDEN)) {
      element.append(text.slice(from, match.index));
      const mark = make("span", "control", named(match[0]));
      mark.title = `control character U+${match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
      element.append(mark);
      from = match.index + match[0].length;
    }
    element.append(text.slice(from));
    return element;
  }

  const figure = (value, digits = 4) => {
    if (value === null || value === undefined) return "undefined";
    return String(Number(value.toPrecision(digits))).replace("-", "−");
  };
  const signed = (value) => (value > 0 ? "+" : "") + figure(value);
  const className = (name) => name.replace(/[^a-z]+/g, "-");
  const words = (name) => name.replace(/_/g, " ");

  function text(label, content, kind) {
    const box = make("div", `text ${kind}`);
    box.append(make("h5", "", label));
    const pre = write(make("pre"), content === "" ? "" : content);
    if (content === "") pre.append(make("span", "soft", "(empty)"));
    pre.tabIndex = 0;
    pre.setAttribute("aria-label", label);
    box.append(pre);
    return box;
  }

  function numbers(item) {
    const list = make("dl", "numbers");
    const add = (name, value) => {
      const pair = make("div");
      pair.append(write(make("dt"), name), write(make("dd"), value));
      list.append(pair);
    };
    add("score", item.score === null ? `missing: ${item.missing || "no reason given"}` : figure(item.score));
    for (const [name, value] of Object.entries(item.parts)) add(name, figure(value));
    add("reward", figure(item.reward));
    add("advantage", item.advantage === null ? "undefined" : signed(item.advantage));
    add("tokens", item.tokens === null ? "not recorded" : String(item.tokens));
    add("log-prob of the text", figure(item.logprob));
    if (item.finish) add("ended by", item.finish);
    return list;
  }

  function badge(kind, name) {
    return make("span", `badge ${kind}-${className(name)}`, words(name));
  }

  function siblings(item) {
    const group = rollouts.filter((other) => other.run === item.run && other.step === item.step
      && other.group === item.group);
    const box = make("details", "siblings");
    const plural = group.length === 1 ? "rollout" : "rollouts";
    box.append(make("summary", "", `The group: ${group.length} logged ${plural}`));
    box.addEventListener("toggle", () => {
      if (!box.open || box.dataset.filled) return;
      box.dataset.filled = "yes";
      const wrap = make("div", "scroll");
      wrap.tabIndex = 0;
      const table = make("table");
      const head = make("tr");
      for (const name of ["sample", "answer", "reward", "advantage", "tokens", "text"]) {
        const cell = make("th", ["sample", "text", "answer"].includes(name) ? "" : "number", name);
        cell.scope = "col";
        head.append(cell);
      }
      table.append(make("thead"), make("tbody"));
      table.tHead.append(head);
      for (const other of group) {
        const row = make("tr", other === item ? "main" : "");
        row.append(make("td", "", String(other.sample)), make("td"));
        row.lastChild.append(badge("result", other.result));
        row.append(
          make("td", "number", figure(other.reward)),
          make("td", "number", other.advantage === null ? "undefined" : signed(other.advantage)),
          make("td", "number", other.tokens === null ? "" : String(other.tokens)),
        );
        const short = other.text.length > 300 ? `${other.text.slice(0, 300)} …` : other.text;
        const cell = make("td", "mono");
        cell.append(write(make("bdi"), short));
        row.append(cell);
        table.tBodies[0].append(row);
      }
      wrap.append(table);
      box.append(wrap);
    });
    return box;
  }

  function card(item) {
    const entry = make("li");
    const article = make("article", "card");
    const head = make("header");
    const title = make("h4");
    const where = [`step ${item.step}`, item.level && `level ${item.level}`, `sample ${item.sample}`];
    write(title, where.filter(Boolean).join(" · "));
    const source = make("span", "soft");
    write(source, [piles.length > 1 && item.run, item.problem].filter(Boolean).join(" · "));
    head.append(title, badge("result", item.result));
    if (item.class) head.append(badge("class", item.class));
    head.append(source);
    const texts = make("div", "texts");
    const asked = text("Prompt", item.promptText, "prompt");
    if (item.answer !== null) {
      const reference = make("p", "reference", "Reference answer: ");
      reference.append(write(make("code"), item.answer));
      asked.append(reference);
    }
    texts.append(asked, text("Answer of the model", item.text, "answer"));
    article.append(head, texts, numbers(item), siblings(item));
    entry.append(article);
    return entry;
  }

  // --- filters

  const distinct = (key) => [...new Set(rollouts.map((item) => item[key]))];
  const byNumber = (a, b) => String(a).localeCompare(String(b), "en", { numeric: true });

  function fill(name, all, values, title = String) {
    const select = form.elements[name];
    if (all) select.append(new Option(all, ""));
    for (const value of values) select.append(new Option(title(value), String(value)));
    if (all && values.length < 2) select.closest("label").hidden = true;
  }

  fill("run", "all runs", distinct("run"));
  fill("step", "all steps", distinct("step").sort((a, b) => a - b));
  fill("level", "all levels", distinct("level").filter(Boolean).sort(byNumber));
  fill("class", "all classes", distinct("class").filter(Boolean).sort(), words);
  fill("result", "right and wrong", distinct("result").sort());
  const ORDERS = {
    logged: ["as logged", null],
    high: ["highest advantage", (a, b) => (b.advantage ?? -Infinity) - (a.advantage ?? -Infinity)],
    low: ["lowest advantage", (a, b) => (a.advantage ?? Infinity) - (b.advantage ?? Infinity)],
    long: ["longest", (a, b) => (b.tokens ?? 0) - (a.tokens ?? 0)],
  };
  fill("order", "", Object.keys(ORDERS), (key) => ORDERS[key][0]);

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    const needle = wanted.search.toLowerCase();
    const exact = ["run", "step", "level", "class", "result"].filter((key) => wanted[key]);
    found = rollouts.filter((item) => exact.every((key) => String(item[key]) === wanted[key])
      && (!needle || haystack(item).includes(needle)));
    const order = ORDERS[wanted.order || "logged"][1];
    if (order) found = [...found].sort(order);
    page = 0;
    render();
  }

  function haystack(item) {
    item.lower ??= `${item.promptText}\n${item.text}\n${item.answer ?? ""}\n${item.problem}`.toLowerCase();
    return item.lower;
  }

  function render() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const cards = document.getElementById("cards");
    cards.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(card));
    cards.start = page * PAGE + 1;
    cards.dataset.shown = String(++renders);
    document.getElementById("found").textContent =
      `${found.length.toLocaleString("en")} of ${rollouts.length.toLocaleString("en")} rollouts`;
    document.getElementById("place").textContent = `page ${page + 1} of ${pages}`;
    document.getElementById("previous").disabled = page === 0;
    document.getElementById("next").disabled = page + 1 >= pages;
  }

  function turn(by) {
    page += by;
    render();
    document.getElementById("rollouts").scrollIntoView();
  }

  let timer = 0;
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 100); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter, 0));
  document.getElementById("previous").addEventListener("click", () => turn(-1));
  document.getElementById("next").addEventListener("click", () => turn(1));
  render();
})();

// What the rollout and the pair browser share. Model text reaches the page through textContent only.
const Cards = (() => {
  "use strict";
  const PAGE = 10;

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
  const spaced = (name) => name.replace(/_/g, " ");

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

  function numbers(entries) {
    const list = make("dl", "numbers");
    for (const [name, value] of entries) {
      const pair = make("div");
      pair.append(write(make("dt"), name), write(make("dd"), String(value)));
      list.append(pair);
    }
    return list;
  }

  function badge(kind, name) {
    return make("span", `badge ${kind}-${className(name)}`, spaced(name));
  }

  // --- a form of filters above pages of cards

  const byNumber = (a, b) => String(a).localeCompare(String(b), "en", { numeric: true });

  // options: prefix of the element ids, items, card(item), exact (filters that must equal a field or
  // one of its values),
  // haystack(item), orders {key: [title, comparison]}, things (what an item is called), all {filter:
  // title}, sorted {filter: comparison or null}, titles {filter: value -> text}
  function browse(options) {
    const at = (name) => document.getElementById(options.prefix + name);
    const form = at("filters");
    if (!form) return;
    let shown = options.items;
    let page = 0;
    let renders = 0;

    function fill(name, all, values, title = String) {
      const select = form.elements[name];
      if (all) select.append(new Option(all, ""));
      for (const value of values) select.append(new Option(title(value), String(value)));
      if (all && values.length < 2) select.closest("label").hidden = true;
    }

    for (const key of options.exact) {
      const values = [...new Set(options.items.flatMap((item) => item[key]))].filter((v) => v !== "");
      const sort = (options.sorted || {})[key];
      fill(key, options.all[key], sort ? values.sort(sort) : values, (options.titles || {})[key]);
    }
    fill("order", "", Object.keys(options.orders), (key) => options.orders[key][0]);

    function filter() {
      const wanted = Object.fromEntries(new FormData(form));
      const needle = wanted.search.toLowerCase();
      const exact = options.exact.filter((key) => wanted[key]);
      const has = (item, key) => [item[key]].flat().map(String).includes(wanted[key]);
      shown = options.items.filter((item) => exact.every((key) => has(item, key))
        && (!needle || haystack(item).includes(needle)));
      const order = options.orders[wanted.order || Object.keys(options.orders)[0]][1];
      if (order) shown = [...shown].sort(order);
      page = 0;
      render();
    }

    function haystack(item) {
      item.lower ??= options.haystack(item).toLowerCase();
      return item.lower;
    }

    function render() {
      const pages = Math.max(1, Math.ceil(shown.length / PAGE));
      const cards = at("cards");
      cards.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(options.card));
      cards.start = page * PAGE + 1;
      cards.dataset.shown = String(++renders);
      at("found").textContent = `${shown.length.toLocaleString("en")} of `
        + `${options.items.length.toLocaleString("en")} ${options.things}`;
      at("place").textContent = `page ${page + 1} of ${pages}`;
      at("previous").disabled = page === 0;
      at("next").disabled = page + 1 >= pages;
    }

    function turn(by) {
      page += by;
      render();
      at("top").scrollIntoView();
    }

    let timer = 0;
    form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 100); });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter, 0));
    at("previous").addEventListener("click", () => turn(-1));
    at("next").addEventListener("click", () => turn(1));
    render();
  }

  return { make, write, text, numbers, badge, figure, signed, spaced, browse, byNumber };
})();

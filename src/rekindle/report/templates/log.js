// The page of a log: tables that sort, and the groups of rollouts behind its numbers.
(() => {
  "use strict";
  const { make, write, text, numbers, badge, figure, signed, spaced, byNumber } = Cards;

  // --- tables

  const valueOf = (row, at) => {
    const cell = row.cells[at];
    const written = cell.dataset.value ?? cell.textContent;
    return cell.classList.contains("number") ? Number(written.replace(/,/g, "")) : written;
  };

  function sort(table, at) {
    const head = table.tHead.rows[0].cells[at];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [one, other] = [valueOf(a, at), valueOf(b, at)];
      const order = typeof one === "number" ? one - other : byNumber(one, other);
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((cell, at) => {
      const button = make("button", "", cell.textContent);
      button.type = "button";
      button.addEventListener("click", () => sort(table, at));
      cell.replaceChildren(button);
    });
  }

  // --- groups of rollouts

  const groups = JSON.parse(document.getElementById("groups-data").textContent);
  const whys = JSON.parse(document.getElementById("whys-data").textContent);
  const several = new Set(groups.map((group) => group.log)).size > 1;
  groups.forEach((group) => { group.step ??= ""; });

  function resultOf(answer) {
    if (answer.verdict === null) return "missing";
    return answer.verdict >= 1 ? "right" : answer.verdict > 0 ? "partly right" : "wrong";
  }

  function entry(answer, at) {
    const item = make("li");
    const box = make("details");
    const head = make("summary");
    const shown = [["score", figure], ["advantage", signed], ["tokens", String]]
      .filter(([name]) => answer.numbers[name] !== undefined)
      .map(([name, how]) => `${name} ${how(answer.numbers[name])}`);
    head.append(badge("result", resultOf(answer)), make("span", "", shown.join(" · ")));
    for (const flag of answer.flags) head.append(make("span", "badge", flag));
    const line = answer.text.slice(0, 160).replace(/\s+/g, " ");
    head.append(write(make("bdi", "start"), line || "(empty)"));
    box.append(head);
    box.addEventListener("toggle", () => {
      if (!box.open || box.dataset.filled) return;
      box.dataset.filled = "yes";
      const facts = Object.entries(answer.numbers).map(([name, value]) => [name, figure(value)]);
      box.append(text(`Answer ${at + 1}`, answer.text, "answer"), numbers([...facts, ["from", answer.place]]));
    });
    item.append(box);
    return item;
  }

  function card(group) {
    const box = make("li");
    const article = make("article", "card");
    const head = make("header");
    const step = group.step === "" ? "no step" : `step ${group.step}`;
    head.append(make("h4", "", `${step} · group ${group.group}`));
    if (group.class) head.append(badge("class", group.class));
    const about = [several && group.log, `shown for: ${group.why.map((why) => whys[why]).join(", ")}`, group.answers[0].place];
    head.append(write(make("span", "soft"), about.filter(Boolean).join(" · ")));
    const prompt = text("Prompt", group.prompt + (group.more ? " …" : ""), "prompt");
    if (group.gold !== null) {
      const reference = make("p", "reference", "Reference answer: ");
      reference.append(write(make("code"), group.gold));
      prompt.append(reference);
    }
    const answers = make("ol", "answers");
    answers.append(...group.answers.map(entry));
    article.append(head, prompt, answers);
    if (group.answers.length < group.size) {
      article.append(make("p", "note", `${group.answers.length} of its ${group.size} answers are here.`));
    }
    box.append(article);
    return box;
  }

  Cards.browse({
    prefix: "",
    items: groups,
    card,
    things: "groups",
    exact: ["log", "why", "class", "step"],
    all: { log: "all logs", why: "any reason", class: "all classes", step: "all steps" },
    sorted: { step: (a, b) => a - b, class: byNumber },
    titles: { why: (name) => whys[name], class: spaced },
    haystack: (group) => [group.prompt, group.gold ?? "", ...group.answers.map((a) => a.text)].join("\n"),
    orders: {
      shown: ["by what they show", null],
      early: ["earliest step", (a, b) => a.step - b.step],
      late: ["latest step", (a, b) => b.step - a.step],
    },
  });

  for (const button of document.querySelectorAll("button[data-why]")) {
    button.addEventListener("click", () => {
      const form = document.getElementById("filters");
      form.reset();
      if (several) form.elements.log.value = button.dataset.log;
      form.elements.why.value = button.dataset.why;
      setTimeout(() => form.dispatchEvent(new Event("input")), 0);
      document.getElementById("rollouts").scrollIntoView();
    });
  }
})();

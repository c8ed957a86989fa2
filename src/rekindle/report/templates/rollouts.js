// The rollout browser.
(() => {
  "use strict";
  const source = document.getElementById("rollouts-data");
  if (!source) return;
  const { make, write, text, numbers, badge, figure, signed, spaced, byNumber } = Cards;
  const piles = JSON.parse(source.textContent);
  const rollouts = piles.flatMap((pile) => pile.rows.map((row) => unpack(pile, row)));

  function unpack(pile, row) {
    const item = { run: pile.run };
    pile.columns.forEach((column, i) => { item[column] = row[i]; });
    [item.problem, item.level, item.promptText, item.answer] = pile.prompts[item.prompt];
    item.result = item.score === null ? "missing"
      : item.score >= 1 ? "right" : item.score > 0 ? "partly right" : "wrong";
    return item;
  }

  function facts(item) {
    const missing = `missing: ${item.missing || "no reason given"}`;
    const list = [["score", item.score === null ? missing : figure(item.score)]];
    for (const [name, value] of Object.entries(item.parts)) list.push([name, figure(value)]);
    list.push(["reward", figure(item.reward)]);
    list.push(["advantage", item.advantage === null ? "undefined" : signed(item.advantage)]);
    list.push(["tokens", item.tokens === null ? "not recorded" : item.tokens]);
    list.push(["log-prob of the text", figure(item.logprob)]);
    if (item.finish) list.push(["ended by", item.finish]);
    return list;
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
    const prompt = text("Prompt", item.promptText, "prompt");
    if (item.answer !== null) {
      const reference = make("p", "reference", "Reference answer: ");
      reference.append(write(make("code"), item.answer));
      prompt.append(reference);
    }
    texts.append(prompt, text("Answer of the model", item.text, "answer"));
    article.append(head, texts, numbers(facts(item)), siblings(item));
    entry.append(article);
    return entry;
  }

  Cards.browse({
    prefix: "",
    items: rollouts,
    card,
    things: "rollouts",
    exact: ["run", "step", "level", "class", "result"],
    all: {
      run: "all runs", step: "all steps", level: "all levels", class: "all classes",
      result: "right and wrong",
    },
    sorted: { step: (a, b) => a - b, level: byNumber, class: byNumber, result: byNumber },
    titles: { class: spaced },
    haystack: (item) => `${item.promptText}\n${item.text}\n${item.answer ?? ""}\n${item.problem}`,
    orders: {
      logged: ["as logged", null],
      high: ["highest advantage", (a, b) => (b.advantage ?? -Infinity) - (a.advantage ?? -Infinity)],
      low: ["lowest advantage", (a, b) => (a.advantage ?? Infinity) - (b.advantage ?? Infinity)],
      long: ["longest", (a, b) => (b.tokens ?? 0) - (a.tokens ?? 0)],
    },
  });
})();

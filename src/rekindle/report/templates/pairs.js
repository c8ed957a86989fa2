// The pair browser: chosen beside rejected, each with all that the run knows of it.
(() => {
  "use strict";
  const source = document.getElementById("pairs-data");
  if (!source) return;
  const { make, write, text, numbers, figure, signed, byNumber } = Cards;
  const piles = JSON.parse(source.textContent);
  const pairs = piles.flatMap((pile) => pile.rows.map((row) => unpack(pile, row)));

  function unpack(pile, row) {
    const [stage, prompt, chosen, rejected, parts, path, line] = row;
    const [problem, promptText] = pile.prompts[prompt];
    const side = ([content, score, by, facts]) => ({ text: content, score, by, facts });
    const item = {
      run: pile.run, stage, problem, promptText, parts, path, line,
      chosen: side(chosen), rejected: side(rejected),
    };
    item.chosenBy = item.chosen.by.split(" ")[0];
    item.rejectedBy = item.rejected.by.split(" ")[0];
    item.weak = parts["weak side"] ?? "";
    item.gap = parts.gap ?? parts["confidence of the vote"] ?? null;
    return item;
  }

  const shown = (value) => (typeof value === "number" ? figure(value) : value ?? "undefined");

  function side(label, answer) {
    const box = text(label, answer.text, "answer");
    const facts = [];
    if (answer.score !== null) facts.push(["score", figure(answer.score)]);
    if (answer.by) facts.push(["written by", answer.by]);
    for (const [name, value] of Object.entries(answer.facts)) facts.push([name, shown(value)]);
    box.append(numbers(facts));
    return box;
  }

  function card(item) {
    const entry = make("li");
    const article = make("article", "card");
    const head = make("header");
    const title = write(make("h4"), [item.stage, item.problem].filter(Boolean).join(" · "));
    const from = [piles.length > 1 && item.run, `${item.path}, line ${item.line}`];
    head.append(title, write(make("span", "soft"), from.filter(Boolean).join(" · ")));
    const prompt = text("Prompt", item.promptText, "prompt");
    const texts = make("div", "texts pair");
    texts.append(side("Chosen", item.chosen), side("Rejected", item.rejected));
    const facts = Object.entries(item.parts).map(
      ([name, value]) => [name, name === "gap" ? signed(value) : shown(value)],
    );
    article.append(head, prompt, texts, numbers(facts));
    entry.append(article);
    return entry;
  }

  const gap = (item, other) => item.gap ?? other;
  Cards.browse({
    prefix: "pairs-",
    items: pairs,
    card,
    things: "pairs",
    exact: ["run", "stage", "chosenBy", "rejectedBy", "weak"],
    all: {
      run: "all runs", stage: "all stages", chosenBy: "any model", rejectedBy: "any model",
      weak: "either side",
    },
    sorted: { stage: byNumber, chosenBy: byNumber, rejectedBy: byNumber, weak: byNumber },
    haystack: (item) => `${item.promptText}\n${item.chosen.text}\n${item.rejected.text}\n${item.problem}`,
    orders: {
      logged: ["as trained on", null],
      wide: ["widest gap", (a, b) => gap(b, -Infinity) - gap(a, -Infinity)],
      narrow: ["narrowest gap", (a, b) => gap(a, Infinity) - gap(b, Infinity)],
    },
  });
})();

// Before the page is painted: light or dark, as chosen earlier or as the system has it.
(() => {
  "use strict";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try { return localStorage.getItem("rekindle-theme") || "auto"; } catch { return "auto"; }
  };
  const apply = (choice) => {
    const dark = choice === "dark" || (choice === "auto" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  };
  let choice = stored();
  apply(choice);
  system.addEventListener("change", () => apply(choice));
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => { button.textContent = `Theme: ${choice}`; };
    label();
    button.addEventListener("click", () => {
      const order = ["auto", "light", "dark"];
      choice = order[(order.indexOf(choice) + 1) % order.length];
      try { localStorage.setItem("rekindle-theme", choice); } catch { /* private mode */ }
      apply(choice);
      label();
    });
  });
})();

"use strict";

// A command's button copies it; where the browser does not let it, the text is selected for the user's own copy.
document.querySelectorAll(".copy").forEach((button) => {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    } catch {
      getSelection().selectAllChildren(code);
    }
  });
});

// A click on a table's head sorts by that column: numbers by size, and first the largest; else by letters.
const valueOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text !== "" && !isNaN(text) ? Number(text) : text;
};
const order = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === typeof b) return a.localeCompare(b, undefined, { numeric: true });
  return typeof a === "number" ? 1 : -1;
};
document.querySelectorAll(".sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const numbers = head.classList.contains("number");
      const down = head.ariaSort ? head.ariaSort === "ascending" : numbers;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (down ? -1 : 1) * order(valueOf(a, column), valueOf(b, column)));
      table.tBodies[0].append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
});

// Pointing at a trial, in the table or in a plot, marks it everywhere; a click holds the mark.
let held = null;
const parts = new Map();
document.querySelectorAll("[data-trial]").forEach((part) => {
  const trial = part.dataset.trial;
  parts.set(trial, [...(parts.get(trial) ?? []), part]);
});
const mark = (trial, on) => (parts.get(trial) ?? []).forEach((part) => part.classList.toggle("on", on));
const trialAt = (event) => event.target.closest?.("[data-trial]")?.dataset.trial;
document.addEventListener("pointerover", (event) => { const at = trialAt(event); if (at) mark(at, true); });
document.addEventListener("pointerout", (event) => { const at = trialAt(event); if (at && at !== held) mark(at, false); });
document.addEventListener("click", (event) => {
  const at = trialAt(event);
  if (!at) return;
  if (held) mark(held, false);
  held = at === held ? null : at;
  if (held) mark(held, true);
});

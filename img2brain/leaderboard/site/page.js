"use strict";
(() => {
  const tables = [...document.querySelectorAll("table")];
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  const trials = rows.filter((row) => !row.closest("table").classList.contains("plain"));
  const order = new Intl.Collator("en", { numeric: true });

  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();

  // A cell without a number stays last, whichever way the column is sorted.
  function sort(table, column, numeric, sign) {
    const compare = (a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      if (x === "none" || y === "none") return (x === "none") - (y === "none");
      return sign * (numeric ? x - y : order.compare(x, y));
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }

  function click(table, header) {
    const numeric = header.classList.contains("number");
    const first = header.dataset.first ?? "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const direction = header.getAttribute("aria-sort") === first ? other : first;
    for (const each of header.parentElement.cells) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    sort(table, header.cellIndex, numeric, direction === "ascending" ? 1 : -1);
  }

  for (const table of tables) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.append(...header.childNodes);
      button.addEventListener("click", () => click(table, header));
      header.append(button);
    }
  }

  const input = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  function filter() {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => texts.get(row).includes(word));
    shown.textContent = `${trials.filter((row) => !row.hidden).length} of ${trials.length} trials`;
  }

  input.addEventListener("input", filter);
  document.getElementById("tools").hidden = false;
  filter();
})();

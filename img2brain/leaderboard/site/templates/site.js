"use strict";
// The index: which board and region are seen, and the order, filter and columns of the table, all kept in the address.
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const FEW = 20;
  const collator = new Intl.Collator("en", { numeric: true });
  const boards = all("section.board");
  const sections = all("section.board, section.across");
  let asked = new URLSearchParams();
  let tables = new Map();

  // --- the table of a board -------------------------------------------------------------------------------------
  class Trials {
    constructor(board) {
      this.board = board;
      this.table = board.querySelector("table.trials");
      this.heads = [...this.table.tHead.rows[0].cells];
      this.rows = [...this.table.tBodies[0].rows].map((line, place) => ({ line, place, text: line.textContent.toLowerCase() }));
      this.input = board.querySelector("input[type=search]");
      this.output = board.querySelector("output");
      this.more = all("button.more", board).at(-1);
      this.boxes = all("[data-column]", board);
      this.usual = this.boxes.filter((box) => this.isSeen(this.column(box.dataset.column))).map((box) => box.dataset.column);
      this.listen();
    }

    listen() {
      for (const head of this.heads) {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...head.childNodes);
        button.addEventListener("click", () => this.click(head));
        head.append(button);
      }
      this.input.addEventListener("input", () => change({ q: this.input.value || null }));
      for (const box of this.boxes) box.addEventListener("change", () => this.choose());
      this.more.addEventListener("click", () => change({ rows: "all" }));
      this.board.querySelector(".tools").hidden = false;
    }

    column(key) { return this.heads.findIndex((head) => head.dataset.key === key); }

    isSeen(column) { return getComputedStyle(this.heads[column]).display !== "none"; }

    click(head) {
      const first = head.dataset.first, other = first === "ascending" ? "descending" : "ascending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      change({ sort: (direction === "descending" ? "-" : "") + head.dataset.key });
    }

    choose() {
      const chosen = this.boxes.filter((box) => box.checked).map((box) => box.dataset.column);
      change({ columns: chosen.join() === this.usual.join() ? null : chosen.join() });
    }

    value(row, column) {
      const cell = row.line.cells[column];
      if (!this.heads[column].classList.contains("n")) return cell.textContent.trim();
      return cell.dataset.v === "" ? null : Number(cell.dataset.v);
    }

    show() {
      this.input.value === (asked.get("q") ?? "") || (this.input.value = asked.get("q") ?? "");
      this.seen();
      const key = asked.get("sort") ?? "rank", column = this.column(key.replace(/^-/, ""));
      this.sort(Math.max(column, 0), key.startsWith("-") ? -1 : 1);
      this.filter();
    }

    seen() {
      const chosen = asked.get("columns")?.split(",");
      const usual = this.heads.map((head) => !chosen || chosen.includes(head.dataset.key));
      for (const box of this.boxes) box.checked = (chosen ?? this.usual).includes(box.dataset.column);
      for (const line of [this.table.tHead.rows[0], ...this.rows.map((row) => row.line)]) {
        [...line.cells].forEach((cell, place) => {
          cell.classList.toggle("on", Boolean(chosen) && usual[place]);
          cell.classList.toggle("off", !usual[place]);
        });
      }
    }

    // A row without a number stays last, whichever way the column is sorted.
    sort(column, sign) {
      const values = new Map(this.rows.map((row) => [row, this.value(row, column)]));
      const compare = (a, b) => {
        const [x, y] = [values.get(a), values.get(b)];
        if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
        return sign * (typeof x === "number" ? x - y : collator.compare(x, y)) || a.place - b.place;
      };
      this.rows.sort(compare);
      this.table.tBodies[0].append(...this.rows.map((row) => row.line));
      this.heads.forEach((head) => head.removeAttribute("aria-sort"));
      this.heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    }

    filter() {
      let tests;
      try {
        tests = this.tests(this.input.value);
        this.input.removeAttribute("aria-invalid");
      } catch (error) {
        this.output.textContent = error.message;
        this.input.setAttribute("aria-invalid", "true");
        return;
      }
      const found = this.rows.filter((row) => tests.every((test) => test(row)));
      const shown = new Set(asked.get("rows") === "all" ? found : found.slice(0, FEW));
      for (const row of this.rows) row.line.hidden = !shown.has(row);
      this.output.textContent = `${found.length} of ${this.rows.length} trials`;
      this.more.hidden = shown.size === found.length;
      this.more.textContent = `Show all ${found.length} trials`;
    }

    tests(query) {
      const term = /([^\s:<>=!"]+)\s*(<=|>=|!=|[:<>=])\s*("[^"]*"|[^\s]+)|"([^"]*)"|(\S+)/gu;
      return [...query.matchAll(term)].map(([, key, sign, value, quoted, word]) => {
        if (!key) return (row) => row.text.includes((quoted ?? word).toLowerCase());
        return this.test(key.toLowerCase(), sign, value.replace(/^"|"$/g, ""));
      });
    }

    test(key, sign, value) {
      const column = this.column(key === "score" ? "validation" : key);
      if (column < 0) throw new Error(`There is no column "${key}". The menu of columns names them.`);
      const text = value.toLowerCase(), number = Number(value.replace("−", "-"));
      const isNumber = this.heads[column].classList.contains("n");
      if (sign === ":") return (row) => row.line.cells[column].textContent.toLowerCase().includes(text);
      if (isNumber && Number.isNaN(number)) throw new Error(`The column "${key}" holds numbers.`);
      const compare = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "!=": (a, b) => a !== b }[sign];
      if (isNumber) return (row) => { const found = this.value(row, column); return found !== null && compare(found, number); };
      return (row) => compare(collator.compare(this.value(row, column).toLowerCase(), text), 0);
    }
  }

  // --- what the address says ------------------------------------------------------------------------------------
  function change(values) {
    for (const [name, value] of Object.entries(values)) value === null ? asked.delete(name) : asked.set(name, value);
    history.replaceState(null, "", `#${asked}`);
    apply();
  }

  function apply() {
    asked = new URLSearchParams(location.hash.slice(1));
    const shown = sections.find((section) => section.id === asked.get("board")) ?? sections[0];
    for (const section of sections) section.hidden = section !== shown;
    for (const link of all("[data-board]")) mark(link, link.dataset.board === shown?.id);
    if (!boards.includes(shown)) return;
    const figures = all("figure[data-region]", shown);
    const part = chosen("part", figures), region = chosen("region", figures.filter((figure) => figure.dataset.part === part));
    for (const item of all("[data-part]", shown)) item.hidden = item.dataset.part !== part || (item.dataset.region ?? region) !== region;
    for (const link of all("a[data-tab]", shown)) mark(link, link.dataset.value === { part, region }[link.dataset.tab]);
    if (!tables.has(shown)) tables.set(shown, new Trials(shown));
    tables.get(shown).show();
  }

  // What the address asks for where it is one of these, or else the first.
  function chosen(name, those) {
    return (those.find((figure) => figure.dataset[name] === asked.get(name)) ?? those[0])?.dataset[name];
  }

  function mark(link, isCurrent) {
    isCurrent ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }

  // The link of a part or a region leaves filter, order and columns as they are.
  for (const link of all("a[data-tab]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const next = new URLSearchParams(asked);
      next.set("board", link.closest("section").id);
      next.set(link.dataset.tab, link.dataset.value);
      location.hash = next;
    });
  }

  // --- long lists, and rows to compare --------------------------------------------------------------------------
  for (const figure of all("figure.forest")) {
    const rest = all("[data-more]", figure), button = figure.querySelector("button.more");
    if (!button) continue;
    for (const line of rest) line.hidden = true;
    button.hidden = false;
    button.addEventListener("click", () => {
      for (const line of rest) line.hidden = false;
      button.hidden = true;
      rest[0].querySelector("a").focus();
    });
  }

  function compare(board) {
    const bar = document.createElement("p"), link = document.createElement("a"), clear = document.createElement("button");
    bar.className = "compare";
    bar.hidden = true;
    clear.type = "button";
    clear.className = "more";
    clear.textContent = "Clear";
    bar.append(link, clear);
    board.querySelector("h3").before(bar);
    const boxes = all("[data-pick]", board);
    const chosen = new Set();
    const show = () => {
      for (const box of boxes) box.checked = chosen.has(box.dataset.pick);
      bar.hidden = !chosen.size;
      link.textContent = chosen.size > 1 ? `Compare ${chosen.size} models` : "Choose another model to compare";
      if (chosen.size > 1) link.href = `compare.html#${[...chosen].join(",")}`;
      else link.removeAttribute("href");
    };
    for (const box of boxes) {
      box.hidden = false;
      box.addEventListener("change", () => {
        box.checked ? chosen.add(box.dataset.pick) : chosen.delete(box.dataset.pick);
        show();
      });
    }
    clear.addEventListener("click", () => { chosen.clear(); show(); });
  }

  boards.forEach(compare);
  addEventListener("hashchange", apply);
  apply();
})();

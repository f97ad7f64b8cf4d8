"use strict";
// The comparison of chosen rows, named in the address: compare.html#ROW,ROW. All texts enter as text, never as markup.
(() => {
  const groups = globalThis.leaderboard;
  const get = (id) => document.getElementById(id);
  const UNDEFINED = -32768, SVG = "http://www.w3.org/2000/svg";
  let group = null, chosen = [], axes = [null, null];

  function add(parent, name, text, attributes = {}) {
    const element = parent.namespaceURI === SVG ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined && text !== null) element.textContent = text;
    parent.append(element);
    return element;
  }

  // The last digit is worth no more than a tenth of the interval to either side.
  function digits([, low, high]) {
    const side = (high - low) / 2;
    return low === null || !(side > 0) ? 3 : Math.min(Math.max(Math.ceil(1 - Math.log10(side) - 1e-9), 0), 4);
  }

  const written = (value, n, sign) => (value > 0 && sign ? "+" : "") + value.toFixed(n).replace("-", "−");

  function interval(cell, found, sign = false) {
    if (!found || found[0] === null) return void (cell.textContent = "–");
    const n = digits(found);
    cell.append(written(found[0], n, sign));
    if (found[1] !== null) add(cell, "small", ` [${written(found[1], n, sign)}, ${written(found[2], n, sign)}]`);
  }

  const label = (row) => `${row.name} (${row.about})`;
  const regionName = (name) => name || "All voxels";

  function difference(a, b) {
    const [i, j] = [Math.min(a, b), Math.max(a, b)], n = group.rows.length;
    const [found, p] = group.pairs[i * n - (i * (i + 1)) / 2 + j - i - 1];
    const turned = (each) => each && (each[0] === null || a < b ? each : [-each[0], each[2] === null ? null : -each[2], each[1] === null ? null : -each[1]]);
    return { regions: found.map(turned), p };
  }

  function voxels(row) {
    if (!row.voxels) return null;
    const bytes = Uint8Array.from(atob(row.voxels), (char) => char.charCodeAt(0)), view = new DataView(bytes.buffer);
    return Array.from({ length: bytes.length / 2 }, (_, k) => view.getInt16(2 * k, true)).map((each) => (each === UNDEFINED ? NaN : each * row.scale));
  }

  // --- the parts of the page ------------------------------------------------------------------------------------
  function choice() {
    const field = get("choice"), focused = document.activeElement?.dataset?.row;
    field.querySelectorAll("label").forEach((each) => each.remove());
    for (const each of group ? [group] : groups) {
      for (const row of each.rows) {
        const line = add(field, "label"), box = add(line, "input", null, { type: "checkbox", "data-row": row.id });
        box.checked = chosen.includes(each.rows.indexOf(row)) && each === group;
        line.append(` ${row.rank === null ? "" : `${row.rank}. `}${row.name} `);
        add(line, "small", group ? row.about : `${row.about} · ${each.dataset}`);
        box.addEventListener("change", () => choose(each, row, box.checked));
        if (row.id === focused) box.focus();
      }
    }
  }

  function choose(from, row, isChosen) {
    const ids = chosen.map((place) => group.rows[place].id).filter((id) => id !== row.id);
    history.replaceState(null, "", `#${(isChosen ? [...ids, row.id] : ids).join(",")}`);
    show();
  }

  function table(id, heads, lines) {
    const [head, body] = [get(id).tHead, get(id).tBodies[0]];
    head.replaceChildren();
    body.replaceChildren();
    const top = add(head, "tr");
    heads.forEach((text, place) => add(top, "th", text, place ? { scope: "col", class: "n" } : { scope: "col" }));
    for (const line of lines) line(add(body, "tr"));
  }

  function scores() {
    table("scores", ["Model", ...group.regions.map(regionName)], chosen.map((place) => (line) => {
      const row = group.rows[place], head = add(line, "th", null, { scope: "row" });
      add(head, "a", row.name, { href: `rows/${row.id}.html` });
      add(head, "small", row.about);
      for (const found of row.scores) interval(add(line, "td", null, { class: "n" }), found);
    }));
  }

  function differences() {
    const pairs = chosen.flatMap((a, k) => chosen.slice(k + 1).map((b) => [a, b]));
    table("differences", ["Pair", ...group.regions.map(regionName), "p"], pairs.map(([a, b]) => (line) => {
      const { regions, p } = difference(a, b), head = add(line, "th", null, { scope: "row" });
      head.append(group.rows[a].name, add(head, "small", `${group.rows[a].about} minus`), group.rows[b].name);
      add(head, "small", group.rows[b].about);
      for (const found of regions) interval(add(line, "td", null, { class: "n" }), found, true);
      const cell = add(line, "td", p === null || p === undefined ? "–" : p < 0.001 ? "< 0.001" : p.toPrecision(2), { class: "n" });
      add(cell, "small", p === null || p === undefined ? "" : p < 0.05 ? " told apart" : " tied");
    }));
  }

  function selects() {
    ["x", "y"].forEach((id, k) => {
      const select = get(id);
      if (!chosen.includes(axes[k])) axes[k] = chosen[k];
      select.replaceChildren();
      for (const place of chosen) add(select, "option", label(group.rows[place]), { value: place });
      select.value = axes[k];
      select.onchange = () => { axes[k] = Number(select.value); scatter(); };
    });
  }

  function scatter() {
    const svg = get("scatter"), [a, b] = axes.map((place) => group.rows[place]), [x, y] = [voxels(a), voxels(b)];
    svg.replaceChildren();
    get("drawn").textContent = `${group.voxel}, ${group.voxels[0] < group.voxels[1] ? `${group.voxels[0]} of ${group.voxels[1]} voxels` : `${group.voxels[0]} voxels`}`;
    get("scatter").parentElement.hidden = !x || !y;
    if (!x || !y) return void (get("counted").textContent = "The scores of their voxels are not stored.");
    const both = x.map((value, k) => [value, y[k]]).filter(([p, q]) => Number.isFinite(p) && Number.isFinite(q));
    const values = both.flat(), low = Math.min(0, ...values), high = Math.max(...values, low + 1e-9), span = high - low;
    const at = (value) => 3 + (94 * (value - low)) / span;
    const step = [1, 2, 2.5, 5, 10].map((each) => each * 10 ** Math.floor(Math.log10(span / 5))).find((each) => each >= span / 5);
    add(svg, "rect", null, { class: "frame", width: "100%", height: "100%" });
    for (let k = Math.ceil(low / step); k * step <= high; k++) {
      const where = at(k * step), text = Number((k * step).toPrecision(6)).toString();
      add(svg, "text", text, { x: `${where}%`, y: "100%", dy: 16, "text-anchor": "middle" });
      add(svg, "text", text, { x: -6, y: `${100 - where}%`, dy: 4, "text-anchor": "end" });
    }
    add(svg, "line", null, { class: "equal", x1: "3%", y1: "97%", x2: "97%", y2: "3%" });
    const inner = add(svg, "svg", null, { viewBox: "0 0 100 100", preserveAspectRatio: "none", width: "100%", height: "100%" });
    add(inner, "path", null, { class: "dots", d: both.map(([p, q]) => `M${at(p).toFixed(2)} ${(100 - at(q)).toFixed(2)}h0`).join("") });
    const above = both.filter(([p, q]) => q > p).length, text = `${b.name} (upwards) scores higher in ${above} of ${both.length} voxels.`;
    get("counted").textContent = text;
    svg.setAttribute("aria-label", `${group.voxel}: ${label(a)} against ${label(b)}. ${text}`);
  }

  function show() {
    const ids = decodeURIComponent(location.hash.slice(1)).split(",").filter(Boolean);
    group = groups.find((each) => each.rows.some((row) => ids.includes(row.id))) ?? (groups.length === 1 ? groups[0] : null);
    const places = ids.map((id) => group?.rows.findIndex((row) => row.id === id) ?? -1);
    chosen = places.filter((place) => place >= 0);
    const n_unknown = places.length - chosen.length;
    choice();
    get("result").hidden = chosen.length < 2;
    get("told").textContent = n_unknown ? `${n_unknown} of the models are not here, or were scored on other images: they do not compare.` : chosen.length < 2 ? "Choose two or more." : "";
    if (group) {
      get("about").textContent = `${group.dataset}: ${group.measure}`;
      get("back").href = `index.html#board=${group.board}`;
    }
    if (chosen.length < 2) return;
    scores();
    differences();
    selects();
    scatter();
  }

  addEventListener("hashchange", show);
  show();
})();

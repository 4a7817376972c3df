// One page of a list of pairs, runs or experiments: open a row, tick rows, sort by a column. Texts are set as text, never as markup.

const made = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
};

// The text in pieces, the hits of the search between <mark> tags.
const marked = ({text, hits}) => {
  const pieces = [];
  let end = 0;
  const characters = Array.from(text);  // Python counts characters, JavaScript halves of some
  for (const [first, last] of hits) {
    pieces.push(characters.slice(end, first).join(""), made("mark", {}, characters.slice(first, last).join("")));
    end = last;
  }
  pieces.push(characters.slice(end).join(""));
  return pieces;
};

const SVG = "http://www.w3.org/2000/svg";

// A tiny curve in a box of 100 by 20; a gap where a value is missing, a dot where there is one value only.
const drawn = ([steps, values]) => {
  const shown = values.filter((value) => value !== null);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const [first, last] = [steps[0], steps.at(-1)], [low, high] = [Math.min(...shown), Math.max(...shown)];
  const x = (step) => (last > first ? (100 * (step - first)) / (last - first) : 50);
  const y = (value) => (high > low ? 19 - (18 * (value - low)) / (high - low) : 10);
  const pieces = [[]];
  values.forEach((value, at) => (value === null ? pieces.push([]) : pieces.at(-1).push([x(steps[at]), y(value)])));
  for (const piece of pieces.filter((points) => points.length)) {
    const dot = piece.length === 1;
    const line = document.createElementNS(SVG, "polyline");
    const points = dot ? [[piece[0][0] - 1, piece[0][1]], [piece[0][0] + 1, piece[0][1]]] : piece;
    line.setAttribute("points", points.map((point) => point.map((number) => number.toFixed(1)).join(",")).join(" "));
    svg.append(line);
  }
  return svg;
};

export default function ({data, parentElement, setTriggerValue}) {
  const list = JSON.parse(new TextDecoder().decode(data));
  const root = parentElement.querySelector(".lab-rows");
  const had = root.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.id : null;
  // A drawing from before the latest ticks were handled does not know them.
  root.turn ??= list.turn;
  const ids = list.rows.map((row) => row.id);
  const ticked = list.turn < root.turn ? new Set([...root.ticked].filter((id) => ids.includes(id))) : new Set(list.ticked);
  root.ticked = ticked;
  let anchor = root.anchor ?? null;

  const rows = () => [...root.querySelectorAll("tbody tr")];
  const tell = () => {
    root.turn += 1;
    clearTimeout(root.telling);
    root.telling = setTimeout(() => setTriggerValue("ticked", {page: ids, ids: [...root.ticked], turn: root.turn}), 120);
  };
  const show = () => {
    rows().forEach((row) => {
      const on = ticked.has(row.dataset.id);
      row.classList.toggle("ticked", on);
      if (!list.ticks) return;
      row.querySelector("input").checked = on;
      row.setAttribute("aria-selected", String(on));
    });
    const all = root.querySelector("thead input");
    if (!all) return;
    const count = ids.filter((id) => ticked.has(id)).length;
    all.checked = count > 0 && count === ids.length;
    all.indeterminate = count > 0 && count < ids.length;
  };
  const tick = (id, on, range) => {
    if (!list.ticks) return;
    const [one, other] = [ids.indexOf(range ? (anchor ?? id) : id), ids.indexOf(id)];
    if (other < 0) return;
    const span = one < 0 ? [id] : ids.slice(Math.min(one, other), Math.max(one, other) + 1);
    span.forEach((name) => (on ? ticked.add(name) : ticked.delete(name)));
    anchor = root.anchor = id;
    show();
    tell();
  };
  const open = (id) => setTriggerValue("opened", id);

  const header = made("tr");
  if (list.ticks) header.append(made("th", {class: "tick"}, made("input", {type: "checkbox", "aria-label": `Tick all ${list.noun}s of this page`})));
  for (const column of list.columns) {
    const sorted = column.sort && column.sort === list.sort;
    const label = column.sort
      ? made("button", {type: "button", title: column.help || `Sort by ${column.title}`}, column.title, made("span", {class: "way"}, sorted ? (list.descending ? " ▼" : " ▲") : ""))
      : made("span", {title: column.help || column.title}, column.title);
    if (column.sort) label.onclick = () => setTriggerValue("sorted", column.sort);
    header.append(made("th", {class: `${column.kind} room-${column.room}`, style: column.width ? `width:${column.width}` : null,
      "aria-sort": sorted ? (list.descending ? "descending" : "ascending") : null}, label));
  }
  if (list.ticks) header.querySelector("input").onchange = (event) => {
    ids.forEach((id) => (event.target.checked ? ticked.add(id) : ticked.delete(id)));
    show();
    tell();
  };

  const body = made("tbody");
  for (const row of list.rows) {
    const line = made("tr", {"data-id": row.id, tabindex: row.id === list.opened ? "0" : "-1", class: `${row.id === list.opened ? "opened" : ""} ${row.heading ? "heading" : ""}`,
      "aria-current": row.id === list.opened ? "true" : null});
    if (list.ticks) {
      const box = made("input", {type: "checkbox", tabindex: "-1", "aria-label": `Tick ${list.noun} ${row.id}`});
      box.onclick = (event) => { event.stopPropagation(); tick(row.id, box.checked, event.shiftKey); };
      line.append(made("td", {class: "tick"}, box));
    }
    // A heading's only cell reaches over the empty ones behind it: how many of them are shown depends on the list's width.
    list.columns.forEach(({kind, room}, number) => {
      const cell = row.cells[number] ?? {text: "", hits: []};
      const content = cell.curve ? [drawn(cell.curve)] : cell.tone ? [made("span", {class: "tone", style: `--tone: var(--st-${cell.tone}-color)`}, ...marked(cell))] : marked(cell);
      line.append(made("td", {class: `${kind} room-${room}`, title: cell.whole || null, dir: kind === "text" ? "auto" : null}, ...content));
    });
    line.onclick = (event) => {
      if (event.shiftKey && list.ticks) { tick(row.id, true, true); document.getSelection()?.removeAllRanges(); } else open(row.id);
    };
    body.append(line);
  }
  const table = made("table", {"aria-label": list.label, "aria-multiselectable": String(list.ticks), role: "grid"}, made("thead", {}, header), body);
  table.onkeydown = (event) => {
    const line = event.target.closest("tbody tr");
    if (!line) return;
    const lines = rows(), place = lines.indexOf(line);
    const go = (next) => {
      if (!next) return;
      next.focus();
      if (event.shiftKey) { anchor ??= line.dataset.id; tick(line.dataset.id, true, false); tick(next.dataset.id, true, false); }
    };
    const ways = {ArrowDown: () => go(lines[place + 1]), ArrowUp: () => go(lines[place - 1]), Home: () => go(lines[0]), End: () => go(lines.at(-1)),
      Enter: () => open(line.dataset.id), " ": () => tick(line.dataset.id, !ticked.has(line.dataset.id), event.shiftKey)};
    if (list.ticks && (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a") {
      ids.forEach((id) => ticked.add(id));
      show();
      tell();
    } else if (ways[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) ways[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  root.replaceChildren(table);
  if (!root.querySelector('tbody tr[tabindex="0"]')) root.querySelector("tbody tr")?.setAttribute("tabindex", "0");
  show();
  if (had) rows().find((row) => row.dataset.id === had)?.focus();
}

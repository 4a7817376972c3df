// One page of a list of pairs: open a row, tick rows, sort by a column. Texts are set as text, never as markup.

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

export default function ({data, parentElement, setTriggerValue}) {
  const list = JSON.parse(new TextDecoder().decode(data));
  const root = parentElement.querySelector(".lab-pairs");
  const had = root.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.id : null;
  const ticked = new Set(list.ticked);
  let anchor = root.anchor ?? null;

  const rows = () => [...root.querySelectorAll("tbody tr")];
  const tell = () => {
    clearTimeout(root.telling);
    root.telling = setTimeout(() => setTriggerValue("ticked", {page: list.rows.map((row) => row.id), ids: [...ticked]}), 120);
  };
  const show = () => {
    rows().forEach((row) => {
      const on = ticked.has(row.dataset.id);
      row.classList.toggle("ticked", on);
      row.querySelector("input").checked = on;
      row.setAttribute("aria-selected", String(on));
    });
    const all = root.querySelector("thead input");
    const count = list.rows.filter((row) => ticked.has(row.id)).length;
    all.checked = count > 0 && count === list.rows.length;
    all.indeterminate = count > 0 && count < list.rows.length;
  };
  const tick = (id, on, range) => {
    const ids = list.rows.map((row) => row.id);
    const [one, other] = [ids.indexOf(range ? (anchor ?? id) : id), ids.indexOf(id)];
    const span = one < 0 ? [id] : ids.slice(Math.min(one, other), Math.max(one, other) + 1);
    span.forEach((name) => (on ? ticked.add(name) : ticked.delete(name)));
    anchor = root.anchor = id;
    show();
    tell();
  };
  const open = (id) => setTriggerValue("opened", id);

  const header = made("tr", {}, made("th", {class: "tick"}, made("input", {type: "checkbox", "aria-label": "Tick all pairs of this page"})));
  for (const column of list.columns) {
    const sorted = column.sort && column.sort === list.sort;
    const label = column.sort
      ? made("button", {type: "button", title: column.help || `Sort by ${column.title}`}, column.title, made("span", {class: "way"}, sorted ? (list.descending ? " ▼" : " ▲") : ""))
      : made("span", {title: column.help || column.title}, column.title);
    if (column.sort) label.onclick = () => setTriggerValue("sorted", column.sort);
    header.append(made("th", {class: column.kind, style: column.width ? `width:${column.width}` : null,
      "aria-sort": sorted ? (list.descending ? "descending" : "ascending") : null}, label));
  }
  header.querySelector("input").onchange = (event) => {
    list.rows.forEach((row) => (event.target.checked ? ticked.add(row.id) : ticked.delete(row.id)));
    show();
    tell();
  };

  const body = made("tbody");
  for (const row of list.rows) {
    const line = made("tr", {"data-id": row.id, tabindex: row.id === list.opened ? "0" : "-1", class: row.id === list.opened ? "opened" : "",
      "aria-current": row.id === list.opened ? "true" : null});
    const box = made("input", {type: "checkbox", tabindex: "-1", "aria-label": `Tick pair ${row.id}`});
    box.onclick = (event) => { event.stopPropagation(); tick(row.id, box.checked, event.shiftKey); };
    line.append(made("td", {class: "tick"}, box));
    row.cells.forEach((cell, number) => {
      const {kind} = list.columns[number];
      line.append(made("td", {class: kind, title: cell.whole || null, dir: kind === "text" ? "auto" : null}, ...marked(cell)));
    });
    line.onclick = (event) => {
      if (event.shiftKey) { tick(row.id, true, true); document.getSelection()?.removeAllRanges(); } else open(row.id);
    };
    body.append(line);
  }
  const table = made("table", {"aria-label": list.label, "aria-multiselectable": "true", role: "grid"}, made("thead", {}, header), body);
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
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a") {
      list.rows.forEach((row) => ticked.add(row.id));
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

// A table of runs: a row per variant, a column per seed, a button per run. Texts are set as text, never as markup.

const made = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

export default function ({data, parentElement, setTriggerValue}) {
  const grid = JSON.parse(new TextDecoder().decode(data));
  const root = parentElement.querySelector(".lab-grid");
  root.tell = (key) => setTriggerValue("opened", key);
  const fill = (button, cell) => {
    button.title = cell.whole;
    button.className = cell.key === grid.opened ? "opened" : "";
    button.setAttribute("aria-label", cell.whole);
    button.setAttribute("aria-pressed", String(cell.key === grid.opened));
    button.style.setProperty("--tone", `var(--st-${cell.tone}-color)`);
    button.style.setProperty("--share", `${Math.round(100 * cell.share)}%`);
    button.firstChild.textContent = cell.text;
  };
  const shape = JSON.stringify([grid.seeds, grid.rows.map((row) => [row.name, row.cells.map((cell) => cell.key)])]);
  if (root.shape === shape) {  // only states have changed: the focus and the place of the scrollbar stay
    const cells = grid.rows.flatMap((row) => row.cells);
    [...root.querySelectorAll("button")].forEach((button, at) => fill(button, cells[at]));
    return;
  }
  root.shape = shape;
  const head = made("tr", {}, made("th", {scope: "col"}, "Variant"), ...grid.seeds.map((seed) => made("th", {scope: "col"}, seed)));
  const body = grid.rows.map((row) =>
    made("tr", {}, made("th", {scope: "row", title: row.name, dir: "auto"}, row.name), ...row.cells.map((cell) => {
      const button = made("button", {type: "button"}, made("span"));
      button.onclick = () => root.tell(cell.key);
      fill(button, cell);
      return made("td", {}, button);
    })));
  const table = made("table", {"aria-label": grid.label}, made("thead", {}, head), made("tbody", {}, ...body));
  table.onkeydown = (event) => {
    const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.seeds.length, ArrowDown: grid.seeds.length};
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    const buttons = [...root.querySelectorAll("button")];
    buttons[buttons.indexOf(event.target) + steps[event.key]]?.focus();
    event.preventDefault();
    event.stopPropagation();
  };
  // One stop of the Tab key for the whole table: the run that had the focus last, else the opened or the first one.
  const stop_at = (button) => root.querySelectorAll("button").forEach((each) => { each.tabIndex = each === button ? 0 : -1; });
  table.addEventListener("focusin", (event) => event.target.tagName === "BUTTON" && stop_at(event.target));
  root.replaceChildren(table);
  stop_at(root.querySelector("button.opened") || root.querySelector("button"));
}

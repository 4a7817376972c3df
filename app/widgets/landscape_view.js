// Moves one common point over up to three fields, by mouse, touch and keyboard; descends from it; reports it to Python.
// One script with landscape_drawing.js, which comes before it.

const REPORT_EVERY = 200;  // ms between two reports to Python while the point moves
const SPEAK_AFTER = 500;  // ms without a change until a screen reader hears the values
const PLAY_EVERY = 100;  // ms between two steps of a descent that is played
const MOST_STEPS = 400;

const AXES = ["log X₁", "log X₂"];
const HELP = "Arrow keys move it by 0.1 nats, with Shift by 1; Home moves it to (0, 0).";

// Point, quantity and steps of each view: the page may build its element anew.
const MEMORY = (window.labFieldMemory ??= {});

const made = (tag, parent, more = {}) => {
  const {data, ...own} = more, element = parent.appendChild(Object.assign(document.createElement(tag), own));
  Object.assign(element.dataset, data);
  return element;
};
const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

const makeCard = (my, parent) => {
  const card = {element: made("div", parent, {className: "card"})};
  const head = made("div", card.element, {className: "head"});
  card.title = made("h4", head);
  card.rate = made("span", head, {className: "rate"});
  card.plane = made("div", card.element, {className: "plane"});
  card.base = made("canvas", card.plane);
  card.overlay = made("canvas", card.plane);
  card.hit = made("div", card.plane, {className: "hit", tabIndex: 0, role: "application"});
  card.values = [0, 1].map(() => made("span", card.hit, {className: "value"}));
  card.under = made("div", card.plane, {className: "under"});
  const table = made("table", card.element), first = made("tr", made("thead", table)), body = made("tbody", table);
  made("th", first);
  card.columns = ["here", "end"].map((column) => ({title: made("th", first, {className: column, scope: "col"}), cells: {}}));
  const line = (label, symbol, name, title) => {
    const row = made("tr", body), header = made("th", row, {scope: "row", title});
    made("span", header, {textContent: label});
    made("span", header, {className: "symbol", textContent: ` ${symbol}`});
    ["here", "end"].forEach((column, k) => { card.columns[k].cells[name] = made("td", row, {className: column, data: {name}}); });
  };
  line("Position", "(log X₁, log X₂)", "position", "The point in nats");
  for (const {label, symbol, layer, meaning} of my.head.rows) line(label, symbol, layer, meaning);
  line("Next position", "", "next", "Position after one more step of gradient descent");
  listen(my, card);
  return card;
};

const fill = (my, card, {title, cells}, point, label) => {
  put(title, label);
  put(cells.position, place(point));
  for (const {layer, sign} of my.head.rows) put(cells[layer], `≈ ${written(sign * valueAt(card.field, layer, ...point))}`);
  put(cells.next, `≈ ${place(nextOf(card.field, point))}`);
};

const steps = (count) => `${count} ${count === 1 ? "step" : "steps"}`;

const hover = (my, card) => {
  const at = my.under?.card === card && !my.dragging ? my.under.point : null, {under, field, frame} = card;
  under.style.display = at ? "block" : "none";
  if (!at) return;
  const lines = my.head.rows.map(({symbol, layer, sign}) => `${symbol} ≈ ${written(sign * valueAt(field, layer, ...at))}`);
  if (!reached(field, at)) lines.push("out of reach: a token probability above 1");
  put(under, [`log X₁ = ${signed(at[0].toFixed(2))}, log X₂ = ${signed(at[1].toFixed(2))}`, ...lines].join("\n"));
  const x = card.toX(at[0]), y = card.toY(at[1]), right = x > frame.left + frame.side / 2, low = y > frame.top + frame.side / 2;
  under.style.left = right ? "" : `${x + 14}px`;
  under.style.right = right ? `${card.width - x + 14}px` : "";
  under.style.top = low ? "" : `${y + 14}px`;
  under.style.bottom = low ? `${card.height - y + 14}px` : "";
};

// What follows the point: paths, markers and readouts.
const follow = (my) => {
  my.frame = 0;
  if (!my.ready) return;
  for (const card of my.cards) card.route = walk(card.field, my.point, my.steps);
  my.walked = Math.max(...my.cards.map(({route}) => route.path.length - 1));  // less than my.steps where all paths have ended
  my.root.classList.toggle("walked", my.walked > 0);
  put(my.count, steps(my.walked));
  for (const card of my.cards) {
    const {path, ended} = card.route;
    drawOverlay(my, card);
    card.values.forEach((value, k) => put(value, `${AXES[k]} ${written(my.point[k])} nats. `));
    fill(my, card, card.columns[0], my.point, "at the point");
    if (my.walked) fill(my, card, card.columns[1], path.at(-1), `after ${steps(path.length - 1)}${ended ? ", the last one" : ""}`);
    hover(my, card);
  }
  MEMORY[my.head.key] = {move: my.move, point: my.point, quantity: my.quantity, steps: my.steps};
};
const soon = (my) => { my.frame ||= requestAnimationFrame(() => follow(my)); };

const speak = (my) => {
  clearTimeout(my.speaking);
  my.speaking = setTimeout(() => {
    if (!my.root.contains(document.activeElement)) return;
    const told = my.cards.map((card) => {
      const {path} = card.route, at = path.at(-1), after = my.walked ? ` after ${steps(path.length - 1)} at ${place(at)}` : "";
      const values = my.head.rows.map(
        ({label, layer, sign}) => `${label.toLowerCase()} ${written(sign * valueAt(card.field, layer, ...at))}`);
      return `${card.title.textContent}${after}: ${values.join(", ")}.`;
    });
    put(my.spoken, `log X1 ${written(my.point[0])}, log X2 ${written(my.point[1])}. ${told.join(" ")}`);
  }, SPEAK_AFTER);
};

const report = (my, now) => {
  clearTimeout(my.waiting);
  const wait = (my.reported ?? 0) + REPORT_EVERY - performance.now();
  if (!now && wait > 0) { my.waiting = setTimeout(() => report(my, true), wait); return; }
  const content = {point: my.point, quantity: my.quantity, move: my.move}, text = JSON.stringify(content);
  if (text === my.last) return;
  my.last = text;
  my.reported = performance.now();
  my.send("report", content);
};

const moveTo = (my, point, now) => {
  const {x, y} = my.cards[0].field;
  my.point = [x, y].map(([low, high], k) => rounded(Math.min(Math.max(point[k], low), high), my.head.digits));
  soon(my);
  speak(my);
  report(my, now);
};

const KEYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1]};
const listen = (my, card) => {
  const pointAt = ({clientX, clientY}) => {
    const box = card.hit.getBoundingClientRect(), {x, y} = card.field, share = (part) => Math.min(Math.max(part, 0), 1);
    const across = share((clientX - box.left) / box.width), up = share((box.bottom - clientY) / box.height);
    return [x[0] + across * (x[1] - x[0]), y[0] + up * (y[1] - y[0])];
  };
  card.hit.addEventListener("pointerdown", (event) => {
    if (event.button || !my.ready) return;
    card.hit.setPointerCapture(event.pointerId);
    my.dragging = true;
    moveTo(my, pointAt(event));
  });
  card.hit.addEventListener("pointermove", (event) => {
    if (!my.ready) return;
    if (my.dragging) { moveTo(my, pointAt(event)); return; }
    my.under = {card, point: pointAt(event)};
    soon(my);
  });
  const release = (event) => {
    if (!my.dragging) return;
    my.dragging = false;
    if (event.type === "pointerup") my.under = {card, point: pointAt(event)};
    report(my, true);
    soon(my);
  };
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) card.hit.addEventListener(kind, release);
  card.hit.addEventListener("pointerleave", () => { my.under = null; soon(my); });
  card.hit.addEventListener("keydown", (event) => {
    if (!my.ready || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Home") moveTo(my, [0, 0]);
    else if (KEYS[event.key]) moveTo(my, my.point.map((value, k) => value + KEYS[event.key][k] * (event.shiftKey ? 1 : 0.1)));
    else return;
    event.preventDefault();
  });
};

// The axes' pixels follow the width of the card; the plane is square.
const layOut = (my) => {
  const {f} = my, pen = document.createElement("canvas").getContext("2d");
  pen.font = `${11.5 * f}px ${FONT}`;
  const texts = my.cards.flatMap(({field}) => Object.values(field.layers).flatMap((layer) => layer.texts));
  const right = 24 * f + Math.max(...texts.map((text) => pen.measureText(signed(text)).width));
  for (const card of my.cards) {
    const left = 46 * f, top = 8 * f, bottom = 36 * f;
    const side = Math.max(80, card.plane.clientWidth - left - right);
    const {x, y} = card.field;
    Object.assign(card, {frame: {left, top, side}, width: left + side + right, height: top + side + bottom});
    card.toX = (value) => left + ((value - x[0]) / (x[1] - x[0])) * side;
    card.toY = (value) => top + side - ((value - y[0]) / (y[1] - y[0])) * side;
    card.plane.style.height = `${card.height}px`;
    Object.assign(card.hit.style, {left: `${left}px`, top: `${top}px`, width: `${side}px`, height: `${side}px`});
    const size = `${card.width} ${card.height} ${window.devicePixelRatio}`;
    if (card.size !== size) card.pen = sized(card.overlay, card.width, card.height);
    card.size = size;
    drawBase(my, card);
  }
  cancelAnimationFrame(my.frame);
  follow(my);
};

const legend = (my) => {
  const {symbol, meaning} = my.head.quantities.find(({name}) => name === my.quantity);
  const hidden = my.cards.some(({field}) => !field.attainable.every(Boolean));
  put(my.legend, `Colours: ${symbol}. ${meaning} Thin arrows: direction of descent, all of the same length. `
    + "Dotted: log X₁ = log X₂." + (hidden ? " Hatched: out of reach, a token probability above 1." : ""));
};

const choose = (my, quantity) => {
  my.quantity = quantity;
  legend(my);
  for (const card of my.cards) drawBase(my, card);
  soon(my);
  report(my, true);
};

const play = (my, on) => {
  clearInterval(my.playing);
  my.playing = on ? setInterval(() => advance(my), PLAY_EVERY) : 0;
  put(my.button, on ? "Pause" : "Play");
  my.button.ariaLabel = on ? "Pause" : "Play";
};
const advance = (my) => {
  const before = my.walked;
  my.steps = Math.min(before + 1, MOST_STEPS);
  cancelAnimationFrame(my.frame);
  follow(my);
  if (my.walked === before) play(my, false);
};
const act = (my, what) => {
  if (!my.ready) return;
  if (what === "play") play(my, !my.playing);
  else play(my, false);
  if (what === "step" || my.playing) advance(my);
  if (what === "back") my.steps = Math.max(0, my.walked - 1);
  if (what === "reset") my.steps = 0;
  soon(my);
  speak(my);
};

const options = (my) => {
  my.choices.replaceChildren();
  for (const {name, label, symbol, meaning} of my.head.quantities) {
    const holder = made("label", my.choices, {title: `${symbol}: ${meaning}`});
    const input = made("input", holder, {type: "radio", name: `lab-quantity-${my.head.key}`, value: name});
    made("span", holder, {textContent: label});
    input.addEventListener("change", () => choose(my, name));
  }
};

const begin = (root) => {
  const my = {root, cards: [], steps: 0, fields: new Map()};
  for (const name of ["count", "legend", "spoken"]) my[name] = root.querySelector(`.${name}`);
  my.choices = root.querySelector(".quantities");
  my.button = root.querySelector("[data-do=play]");
  root.querySelector(".descent").addEventListener("click", ({target}) => {
    const what = target.closest("button")?.dataset.do;
    if (what) act(my, what);
  });
  my.look = () => refresh(my);
  document.addEventListener("lab-arrays", my.look);
  const resized = () => { if (my.ready && root.clientWidth) layOut(my); };
  my.observer = new ResizeObserver(([{contentRect}]) => {
    if (Math.abs(contentRect.width - (my.measured ?? 0)) > 0.5) { my.measured = contentRect.width; resized(); }
  });
  my.observer.observe(root);
  my.resized = resized;
  window.addEventListener("resize", resized);  // the browser's zoom changes devicePixelRatio
  return my;
};

const end = (my) => {
  document.removeEventListener("lab-arrays", my.look);
  window.removeEventListener("resize", my.resized);
  my.observer.disconnect();
  play(my, false);
};

// Arrays lie in elements of their own, which may arrive after the view.
const arraysOf = (my, id) => {
  if (!my.fields.has(id)) {
    const holder = [...document.querySelectorAll(".lab-arrays")].find(({arrays}) => arrays === id);
    if (holder) my.fields.set(id, unpacked(holder.packet));
  }
  return my.fields.get(id);
};

// Draw the last received head, once all of its arrays are here; until then the former picture stays.
const refresh = (my) => {
  const {head} = my, fields = head?.pictures.map(({id}) => arraysOf(my, id));
  if (!fields?.every(Boolean) || my.drawn === my.text) return;
  my.drawn = my.text;
  for (const id of my.fields.keys()) if (!head.pictures.some((picture) => picture.id === id)) my.fields.delete(id);
  my.f = head.large ? 1.5 : 1;
  const {text, faint, grid: line, empty} = head.colours;
  my.colours = {text, empty, faint: head.large ? text : faint, label: text, axis: head.large ? text : faint, grid: `${faint}44`,
                arrows: head.large ? text : `${text}99`, contour: head.large ? text : `${faint}bb`, line};
  my.root.classList.toggle("large", head.large);
  const parent = my.root.querySelector(".cards");
  if (!my.choices.children.length) options(my);
  while (my.cards.length < fields.length) my.cards.push(makeCard(my, parent));
  while (my.cards.length > fields.length) my.cards.pop().element.remove();
  my.cards.forEach((card, k) => {
    const {title} = head.pictures[k];
    Object.assign(card, {field: fields[k]});
    put(card.title, title);
    put(card.rate, `step size ${written(fields[k].rate)} nats²`);
    card.hit.setAttribute("aria-roledescription", "movable point");
    card.hit.setAttribute("aria-label", `Point in the field of ${title}. ${HELP}`);
  });
  for (const input of my.choices.querySelectorAll("input")) input.checked = input.value === my.quantity;
  const {x, y} = fields[0];
  my.point = [x, y].map(([low, high], k) => Math.min(Math.max(my.point[k], low), high));
  legend(my);
  my.ready = true;
  layOut(my);
};

// A placement that Python sends moves the point, once; while it is dragged the person's hand counts.
const receive = (my, head, text) => {
  Object.assign(my, {head, text});
  if (head.move !== my.move) {
    const kept = MEMORY[head.key];
    const own = kept?.move === head.move ? kept : my.dragging ? my : {...head, steps: 0};
    if (own !== my) play(my, false);
    Object.assign(my, {point: own.point, quantity: own.quantity, steps: own.steps, move: head.move, last: undefined});
  }
  refresh(my);
};

export default function ({data, parentElement, setStateValue}) {
  const root = parentElement.querySelector(".lab-fields"), text = new TextDecoder().decode(data);
  const my = (root.my ??= begin(root));
  my.send = setStateValue;
  if (my.text !== text) receive(my, JSON.parse(text), text);
  return () => setTimeout(() => { if (!root.isConnected) { end(my); delete root.my; } });
}

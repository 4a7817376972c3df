// Reads values between the points of a grid, and draws a field on canvases. Numbers come from arrays of the library: no loss is
// computed here. One script with landscape_view.js, which comes behind it.

const FONT = "system-ui, sans-serif";

// The packet of `arrays_payload`: id, length of the head, head, then the numbers of every layer, both steps and the attainable points.
const unpacked = (packet) => {
  const size = new DataView(packet.buffer, packet.byteOffset + 16, 4).getUint32(0, true);
  const {log_x1, log_x2, layers, ...more} = JSON.parse(new TextDecoder().decode(packet.subarray(20, 20 + size)));
  const count = log_x1[2] * log_x2[2];
  let place = 20 + size;
  const next = (length) => packet.slice(place, (place += length)), floats = () => new Float32Array(next(4 * count).buffer), read = {};
  for (const layer of layers) {
    const values = floats();
    // Ratios are kept as log10, rounded so that noise of float32 draws no line where a ratio is 1 everywhere.
    if (layer.logarithmic) values.forEach((v, k) => { values[k] = Math.round(Math.log10(v) * 1e6) / 1e6; });
    read[layer.name] = {...layer, values};
  }
  const own = {x: log_x1, y: log_x2, layers: read, steps: [floats(), floats()], attainable: next(count), images: {}};
  return {...more, ...own};  // rate, and the smallest step whose direction is known
};

const cell = ([low, high, count], value) => {
  const place = ((value - low) / (high - low)) * (count - 1);
  return [Math.min(Math.max(Math.floor(place), 0), count - 2), place];
};

// Bilinear. A corner without weight does not count, so that an infinite value stays at its own point of the grid.
const interpolated = (field, values, x, y) => {
  const [i, atX] = cell(field.x, x), [j, atY] = cell(field.y, y), M = field.y[2], first = i * M + j;
  const u = atX - i, v = atY - j;
  const a = (1 - u) * (1 - v), b = (1 - u) * v, c = u * (1 - v), d = u * v;
  return (a > 1e-9 ? a * values[first] : 0) + (b > 1e-9 ? b * values[first + 1] : 0)
    + (c > 1e-9 ? c * values[first + M] : 0) + (d > 1e-9 ? d * values[first + M + 1] : 0);
};

const valueAt = (field, name, x, y) => {
  const layer = field.layers[name], value = interpolated(field, layer.values, x, y);
  return layer.logarithmic ? 10 ** value : value;
};
const stepOf = (field, [x, y]) => field.steps.map((values) => interpolated(field, values, x, y));
const nextOf = (field, point) => stepOf(field, point).map((step, k) => point[k] + step);
const reached = (field, [x, y]) => {
  const i = Math.round(cell(field.x, x)[1]), j = Math.round(cell(field.y, y)[1]);
  return i >= 0 && j >= 0 && i < field.x[2] && j < field.y[2] && field.attainable[i * field.y[2] + j] > 0;
};
const within = (field, [x, y]) => x >= field.x[0] && x <= field.x[1] && y >= field.y[0] && y <= field.y[1];

// A path ends where the next position is undefined, out of reach or outside the plane.
const walk = (field, start, steps) => {
  const path = [start];
  while (path.length <= steps) {
    const next = nextOf(field, path.at(-1));
    if (!next.every(Number.isFinite) || !within(field, next) || !reached(field, next)) return {path, ended: true};
    path.push(next);
  }
  return {path, ended: false};
};

const signed = (text) => text.replace("-", "−").replace("e-", "e−");
const written = (value) => {
  if (Number.isNaN(value)) return "undefined";
  return signed(Number.isFinite(value) ? String(Number(value.toPrecision(4))) : `${value}`.replace("Infinity", "∞"));
};
const place = (point) =>
  (point.every(Number.isFinite) ? `(${point.map((value) => signed(value.toFixed(2))).join(", ")})` : "undefined");
const rounded = (value, digits) => Number(value.toFixed(digits)) + 0;

const ticksOf = ([low, high], most) => {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) ticks.push(k * step);
  return ticks;
};

const sized = (canvas, width, height) => {
  const scale = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  return pen;
};

const rgb = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
const shades = (stops) => {
  const colours = stops.map(rgb), table = new Uint8ClampedArray(256 * 3);
  for (let k = 0; k < 256; k++) {
    const at = (k / 255) * (colours.length - 1), i = Math.min(Math.floor(at), colours.length - 2);
    table.set([0, 1, 2].map((part) => colours[i][part] + (at - i) * (colours[i + 1][part] - colours[i][part])), 3 * k);
  }
  return table;
};

// The colours of a quantity, drawn once per field and palette. Undefined values stay empty.
const image = (field, quantity) => {
  const name = `${quantity.name} ${quantity.colours}`;
  if (field.images[name]) return field.images[name];
  const layer = field.layers[quantity.name], table = shades(quantity.colours);
  const [width, height] = [field.x, field.y].map(([, , count]) => (count - 1) * Math.max(1, Math.round(240 / (count - 1))) + 1);
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const pen = canvas.getContext("2d"), picture = pen.createImageData(width, height), {data} = picture, {low, high} = layer;
  for (let row = 0; row < height; row++) {
    const y = field.y[1] + (row / (height - 1)) * (field.y[0] - field.y[1]);
    for (let column = 0; column < width; column++) {
      const x = field.x[0] + (column / (width - 1)) * (field.x[1] - field.x[0]);
      const value = interpolated(field, layer.values, x, y);
      if (Number.isNaN(value)) continue;
      const share = (Math.min(Math.max(value, low), high) - low) / (high - low);
      const shade = 3 * Math.round(255 * share), at = 4 * (row * width + column);
      for (let part = 0; part < 3; part++) data[at + part] = table[shade + part];
      data[at + 3] = 255;
    }
  }
  pen.putImageData(picture, 0, 0);
  return (field.images[name] = canvas);
};

// Lines of equal value: each cell is cut into two triangles, on whose sides the value is linear.
const contours = (pen, {field, toX, toY}, layer) => {
  const [N, M] = [field.x[2], field.y[2]], {values} = layer, levels = layer.logarithmic ? [0] : layer.ticks;
  const at = (k) => [toX(field.x[0] + (Math.floor(k / M) / (N - 1)) * (field.x[1] - field.x[0])),
                     toY(field.y[0] + ((k % M) / (M - 1)) * (field.y[1] - field.y[0]))];
  pen.beginPath();
  for (let i = 0; i < N - 1; i++) for (let j = 0; j < M - 1; j++) {
    const k = i * M + j;
    for (const corners of [[k, k + M, k + M + 1], [k, k + 1, k + M + 1]]) {
      if (!corners.every((c) => field.attainable[c] && Number.isFinite(values[c]))) continue;
      for (const level of levels) {
        const ends = [];
        for (const [one, other] of [[0, 1], [1, 2], [2, 0]]) {
          const [p, q] = [corners[one], corners[other]];
          if (values[p] < level === values[q] < level) continue;
          const share = (level - values[p]) / (values[q] - values[p]), [a, b] = [at(p), at(q)];
          ends.push([a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])]);
        }
        if (ends.length === 2) { pen.moveTo(...ends[0]); pen.lineTo(...ends[1]); }
      }
    }
  }
  pen.stroke();
};

const hatched = (pen, {field, frame, toX, toY}, colours, f) => {
  const [N, M] = [field.x[2], field.y[2]], {left, top, side} = frame, half = [side / (N - 1) / 2, side / (M - 1) / 2];
  if (field.attainable.every(Boolean)) return;
  pen.save();
  pen.beginPath();
  pen.rect(left, top, side, side);
  pen.clip();
  pen.beginPath();
  for (let i = 0; i < N; i++) for (let j = 0; j < M; j++) {
    if (field.attainable[i * M + j]) continue;
    const x = left + (i / (N - 1)) * side, y = top + side - (j / (M - 1)) * side;
    pen.rect(x - half[0] - 0.5, y - half[1] - 0.5, 2 * half[0] + 1, 2 * half[1] + 1);
  }
  pen.clip();
  pen.globalAlpha = 0.75;
  pen.fillStyle = colours.empty;
  pen.fillRect(left, top, side, side);
  pen.globalAlpha = 1;
  pen.strokeStyle = colours.faint;
  pen.lineWidth = f;
  pen.beginPath();
  for (let shift = 0; shift < 2 * side; shift += 8 * f) {
    pen.moveTo(left + shift - side, top + side);
    pen.lineTo(left + shift, top);
  }
  pen.stroke();
  pen.restore();
};

const arrow = (pen, x, y, toX, toY, head) => {
  const angle = Math.atan2(toY - y, toX - x);
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(toX - 0.8 * head * Math.cos(angle), toY - 0.8 * head * Math.sin(angle));
  pen.stroke();
  pen.beginPath();
  pen.moveTo(toX, toY);
  for (const turn of [2.7, -2.7]) pen.lineTo(toX + head * Math.cos(angle + turn), toY + head * Math.sin(angle + turn));
  pen.fill();
};

// Direction of a step on the screen and its length in pixels; null where there is none.
const direction = ({field, frame}, point) => {
  const step = stepOf(field, point), right = step[0] / (field.x[1] - field.x[0]), up = step[1] / (field.y[1] - field.y[0]);
  const size = Math.hypot(right, up);
  if (!Number.isFinite(size) || Math.hypot(...step) <= field.smallest) return null;
  return {right: right / size, up: up / size, length: size * frame.side};
};

const descentArrows = (pen, card, colours, f) => {
  const {field, frame, toX, toY} = card, count = Math.min(15, Math.max(8, Math.round(frame.side / (24 * f))));
  const half = (0.3 * frame.side) / count;
  pen.strokeStyle = pen.fillStyle = colours.arrows;
  pen.lineWidth = f;
  for (let i = 0; i < count; i++) for (let j = 0; j < count; j++) {
    const point = [field.x, field.y].map(([low, high], k) => low + (([i, j][k] + 0.5) / count) * (high - low));
    const way = reached(field, point) ? direction(card, point) : null;
    if (!way) continue;
    const [x, y, dx, dy] = [toX(point[0]), toY(point[1]), half * way.right, -half * way.up];
    arrow(pen, x - dx, y - dy, x + dx, y + dy, 4.5 * f);
  }
};

const colourBar = (pen, card, quantity, colours, f) => {
  const {left, top, side} = card.frame, layer = card.field.layers[quantity.name], x = left + side + 9 * f, width = 9 * f;
  const gradient = pen.createLinearGradient(0, top + side, 0, top);
  quantity.colours.forEach((stop, k, all) => gradient.addColorStop(k / (all.length - 1), stop));
  pen.fillStyle = gradient;
  pen.fillRect(x, top, width, side);
  pen.strokeStyle = colours.axis;
  pen.lineWidth = 1;
  pen.strokeRect(x + 0.5, top + 0.5, width - 1, side - 1);
  pen.fillStyle = colours.label;
  pen.textAlign = "left";
  layer.ticks.forEach((tick, k) => {
    const y = top + side - ((tick - layer.low) / (layer.high - layer.low)) * side;
    pen.fillText(signed(layer.texts[k]), x + width + 4 * f, Math.min(Math.max(y, top + 5 * f), top + side - 4 * f));
  });
};

const axes = (pen, {field, frame, toX, toY}, colours, f) => {
  const {left, top, side} = frame, most = side < 260 * f ? 4 : 6;
  pen.fillStyle = colours.label;
  pen.textAlign = "center";
  for (const tick of ticksOf(field.x, most)) pen.fillText(written(tick), toX(tick), top + side + 11 * f);
  pen.fillText("log X₁ [nats]", left + side / 2, top + side + 27 * f);
  pen.textAlign = "right";
  for (const tick of ticksOf(field.y, most)) pen.fillText(written(tick), left - 5 * f, toY(tick));
  pen.save();
  pen.translate(9 * f, top + side / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText("log X₂ [nats]", 0, 0);
  pen.restore();
  pen.strokeStyle = colours.axis;
  pen.lineWidth = 1;
  pen.strokeRect(left + 0.5, top + 0.5, side - 1, side - 1);
};

const grid = (pen, {field, frame, toX, toY}, colours, f) => {
  const {left, top, side} = frame, most = side < 260 * f ? 4 : 6;
  pen.strokeStyle = colours.grid;
  pen.lineWidth = 1;
  pen.beginPath();
  for (const tick of ticksOf(field.x, most)) { pen.moveTo(toX(tick), top); pen.lineTo(toX(tick), top + side); }
  for (const tick of ticksOf(field.y, most)) { pen.moveTo(left, toY(tick)); pen.lineTo(left + side, toY(tick)); }
  pen.stroke();
  const low = Math.max(field.x[0], field.y[0]), high = Math.min(field.x[1], field.y[1]);
  if (low >= high) return;
  pen.strokeStyle = colours.text;
  pen.lineWidth = 1.2 * f;
  pen.setLineDash([2 * f, 4 * f]);
  pen.beginPath();
  pen.moveTo(toX(low), toY(low));
  pen.lineTo(toX(high), toY(high));
  pen.stroke();
  pen.setLineDash([]);
};

// What does not change while the point moves; a card that would look the same stays as it is.
const drawBase = (my, card) => {
  const {colours, f} = my, {frame, width, height} = card, quantity = my.head.quantities.find(({name}) => name === my.quantity);
  const look = JSON.stringify([quantity, width, height, window.devicePixelRatio, f, colours]);
  if (card.drawn?.field === card.field && card.drawn.look === look) return;
  card.drawn = {field: card.field, look};
  const pen = sized(card.base, width, height), picture = image(card.field, quantity);
  pen.font = `${11.5 * f}px ${FONT}`;
  pen.textBaseline = "middle";
  pen.drawImage(picture, 0.5, 0.5, picture.width - 1, picture.height - 1, frame.left, frame.top, frame.side, frame.side);
  pen.strokeStyle = colours.contour;
  pen.lineWidth = (card.field.layers[my.quantity].logarithmic ? 1.4 : 0.8) * f;
  contours(pen, card, card.field.layers[my.quantity]);
  grid(pen, card, colours, f);
  descentArrows(pen, card, colours, f);
  hatched(pen, card, colours, f);
  axes(pen, card, colours, f);
  colourBar(pen, card, quantity, colours, f);
};

// The path of the descent, the point, and an arrow to the next position, which is at least as long as can be seen.
const drawOverlay = (my, card) => {
  const {colours, f} = my, {width, height, toX, toY, route: {path}} = card, pen = card.pen;
  pen.clearRect(0, 0, width, height);
  const trace = path.map(([x, y]) => [toX(x), toY(y)]), end = trace.at(-1), way = direction(card, path.at(-1));
  pen.lineJoin = pen.lineCap = "round";
  const dot = ([x, y], radius) => { pen.beginPath(); pen.arc(x, y, radius, 0, 7); };
  for (const [colour, size] of [[colours.empty, 3 * f], [colours.text, 0]]) {  // an outline, then the line
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = 2 * f + size;
    pen.beginPath();
    trace.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    if (trace.length > 1) pen.stroke();
    if (way) {
      const length = Math.max(way.length, 26 * f);
      pen.lineWidth = 2.2 * f + size;
      arrow(pen, ...end, end[0] + length * way.right, end[1] - length * way.up, 8 * f + size);
    }
    for (const at of trace.slice(1, -1)) { dot(at, 2.2 * f + size / 3); pen.fill(); }
    if (trace.length > 1) { dot(end, 5 * f + size / 2); pen.fill(); }
  }
  dot(trace[0], 7.5 * f);
  pen.fillStyle = colours.empty;
  pen.fill();
  pen.strokeStyle = colours.text;
  pen.lineWidth = 2.6 * f;
  pen.stroke();
  dot(trace[0], 2.2 * f);
  pen.fillStyle = colours.text;
  pen.fill();
};

"use strict";
// One chart as inline SVG with axes, ticks and a cursor that reads values; no library. Text is set, never
// parsed. What is drawn of which run, and how a run looks, is the page's business.

const fillIn = (element, attributes, children) => {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const make = (tag, attributes = {}, ...children) =>
  fillIn(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fillIn(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const short = x => String(+x.toPrecision(3)).replace("-", "\u2212");

// Axes

function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find(factor => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return [...Array(Math.floor(high / step + 1e-9) - first + 1).keys()].map(k => (first + k) * step);
}
function logTicks(low, high) {
  const powers = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) powers.push(10 ** p);
  const among = factors => powers.flatMap(p => factors.map(f => f * p))
    .filter(x => x >= low * 0.999 && x <= high * 1.001);
  return [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]].map(among).find(found => found.length > 2)
    || ticks(low, high, 4);
}

// `show` draws a plot: x and y as [low, high], log (of y), the labels xLabel and yLabel, format (of y);
// shapes ({ look, points, steps, area }, a point without a value is a gap), medians ({ look, x }) and
// stops: the x where the cursor may stand, with a title and lines() of [sample, name, text]. A look is
// the attributes of a path, with its stroke.
class Chart {
  constructor(title, height) {
    this.height = height;
    this.picture = svg("svg", { class: "chart", tabindex: 0, role: "img" });
    this.tip = make("div", { class: "tip", "aria-live": "polite", hidden: "" });
    this.figure = make("figure", { class: "plot" }, make("figcaption", {}, title), this.picture,
      this.tip);
    this.title = title;
    this.at = null;
    this.picture.addEventListener("pointermove", event => {
      const x = event.clientX - this.picture.getBoundingClientRect().left;
      const far = stop => Math.abs(this.x(stop.x) - x);
      const stops = this.plot.stops;
      this.readAt(stops.reduce((best, stop, n) => far(stop) < far(stops[best]) ? n : best, 0));
    });
    for (const event of ["pointerleave", "blur"])
      this.picture.addEventListener(event, () => this.readAt(null));
    this.picture.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], last = this.plot.stops.length - 1;
      if (event.key === "Escape") this.readAt(null);
      else if (step) this.readAt(this.at === null ? (step > 0 ? 0 : last)
        : Math.min(last, Math.max(0, this.at + step)));
      else return;
      event.preventDefault();
    });
    new ResizeObserver(() => this.draw()).observe(this.figure);
  }

  show(plot) { this.plot = plot; this.at = null; this.tip.hidden = true; this.draw(); }

  draw() {
    const { plot, height, picture } = this, width = this.figure.clientWidth;
    if (!plot || !width) return;
    const [left, right, top, bottom] = [52, width - 14, 26, height - 40];
    const along = ([low, high], a, b, bent = x => x) => x =>
      a + (b - a) * (bent(x) - bent(low)) / (bent(high) - bent(low));
    this.x = along(plot.x, left, right);
    this.y = along(plot.y, bottom, top, plot.log ? Math.log10 : undefined);
    const parts = [];
    for (const value of plot.log ? logTicks(...plot.y) : ticks(...plot.y, height / 45)) {
      const y = this.y(value);
      parts.push(svg("path", { class: "rule", d: `M${left} ${y}H${right}` }),
        svg("text", { class: "y", x: left - 8, y: y + 4, "data-value": value }, plot.format(value)));
    }
    for (const value of ticks(...plot.x, width / 90)) {
      const x = this.x(value);
      parts.push(svg("path", { class: "axis", d: `M${x} ${bottom}v5` }),
        svg("text", { class: "x", x, y: bottom + 18, "data-value": value }, short(value)));
    }
    parts.push(svg("path", { class: "axis", d: `M${left} ${bottom}H${right}` }),
      svg("text", { class: "x label", x: (left + right) / 2, y: height - 4 }, plot.xLabel),
      svg("text", { class: "label", x: left, y: 12 }, plot.yLabel));
    for (const shape of plot.shapes) parts.push(this.shape(shape));
    for (const { look, x } of plot.medians || []) parts.push(svg("path", {
      class: "median", ...look, "stroke-dasharray": "", fill: look.stroke,
      d: `M${this.x(x)} ${top}V${bottom}m-5 ${top - bottom - 5}h10l-5 8z` }));
    this.cursor = svg("path", { class: "cursor" });
    picture.replaceChildren(svg("title", {}, `${this.title}. Arrow keys read the values.`), ...parts,
      this.cursor);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("height", height);
    this.bounds = [top, bottom, width];
    this.readAt(null);
  }

  shape({ look, points, steps, area }) {
    const at = ([x, y]) => `${+this.x(x).toFixed(2)} ${+this.y(y).toFixed(2)}`;
    const seen = point => point && point[1] !== null && !(this.plot.log && point[1] <= 0);
    const path = points.map((point, k) => !seen(point) ? "" : seen(points[k - 1]) ? `L${at(point)}`
      : `M${at(point)}${seen(points[k + 1]) ? "" : "m-4 0l4 -4 4 4 -4 4z"}`).join("");
    return svg("path", { class: steps ? "steps" : "line", d: path, ...look,
      ...(area ? { fill: look.stroke } : {}) });
  }

  readAt(stop) {
    this.at = stop;
    this.tip.hidden = stop === null || !this.plot.stops[stop];
    this.cursor.setAttribute("d", "");
    if (this.tip.hidden) return;
    const { x, title, lines } = this.plot.stops[stop], [top, bottom, width] = this.bounds;
    this.cursor.setAttribute("d", `M${this.x(x)} ${top}V${bottom}`);
    this.tip.replaceChildren(make("b", {}, title), ...lines().map(([sample, name, text]) =>
      make("div", {}, sample, make("span", {}, name), make("span", {}, text))));
    const onLeft = this.x(x) > width / 2;
    this.tip.style.left = onLeft ? "" : `${this.x(x) + 12}px`;
    this.tip.style.right = onLeft ? `${width - this.x(x) + 12}px` : "";
  }
}

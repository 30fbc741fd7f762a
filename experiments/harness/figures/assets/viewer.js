"use strict";
// Rotatable structures: every <figure class="structure"> of a gallery holds one canvas; the atoms are
// in the gallery's JSON. Angstrom, z up. A view is a 3x3 rotation and a zoom; no library.

const VIEWS = { tilted: [-0.9, 0.35], top: [0, 0], side: [-Math.PI / 2, 0] };  // about x, then z
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const mix = (a, b, share) => a.map((x, i) => Math.round(x + (b[i] - x) * share));
const apply = (m, v) => m.map(row => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
const times = (a, b) => a.map(row => [0, 1, 2].map(j => row.reduce((s, x, k) => s + x * b[k][j], 0)));
const aboutX = a => [[1, 0, 0], [0, Math.cos(a), -Math.sin(a)], [0, Math.sin(a), Math.cos(a)]];
const aboutY = a => [[Math.cos(a), 0, Math.sin(a)], [0, 1, 0], [-Math.sin(a), 0, Math.cos(a)]];
const aboutZ = a => [[Math.cos(a), -Math.sin(a), 0], [Math.sin(a), Math.cos(a), 0], [0, 0, 1]];
const along = (v, i, w, j) => v.map((x, k) => i * x + j * w[k]);

// One picture of a lit sphere per colour, scaled for every atom.
const spheres = new Map();
function sphere(rgb) {
  const key = rgb.join();
  if (spheres.has(key)) return spheres.get(key);
  const size = 128, canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const pen = canvas.getContext("2d"), light = pen.createRadialGradient(45, 41, 2, 60, 60, 66);
  light.addColorStop(0, `rgb(${mix(rgb, [255, 255, 255], 0.75)})`);
  light.addColorStop(0.45, `rgb(${rgb})`);
  light.addColorStop(1, `rgb(${mix(rgb, [0, 0, 0], 0.45)})`);
  pen.fillStyle = light;
  pen.strokeStyle = `rgb(${mix(rgb, [0, 0, 0], 0.65)})`;
  pen.lineWidth = 3;
  pen.beginPath();
  pen.arc(64, 64, 62, 0, 2 * Math.PI);
  pen.fill();
  pen.stroke();
  spheres.set(key, canvas);
  return canvas;
}

class Viewer {
  constructor(canvas, structure, elements) {
    Object.assign(this, { canvas, structure, elements, repeats: 1, zoom: 1 });
    this.look("tilted");
    let from = null;  // where the pointer that holds the structure was last
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId);
      from = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", event => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      this.turn(event.clientX - from[0], event.clientY - from[1]);
      from = [event.clientX, event.clientY];
    });
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.enlarge(Math.exp(-event.deltaY / 500));
    }, { passive: false });
    canvas.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);  // also draws it first
  }

  key(event) {
    const turns = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] };
    const looks = { t: "top", s: "side", Home: "tilted", 0: "tilted" };
    if (event.key in turns) this.turn(...turns[event.key]);
    else if (event.key in looks) this.look(looks[event.key]);
    else if (event.key === "+" || event.key === "=") this.enlarge(1.15);
    else if (event.key === "-") this.enlarge(1 / 1.15);
    else if (event.key === "r") this.repeat(3 - this.repeats);
    else return;
    event.preventDefault();
  }

  look(name) {
    this.rotation = times(aboutX(VIEWS[name][0]), aboutZ(VIEWS[name][1]));
    this.zoom = 1;
    this.draw();
  }

  turn(dx, dy) {  // pixels, as if the front of the structure were dragged along
    this.rotation = times(times(aboutX(dy / 120), aboutY(dx / 120)), this.rotation);
    this.draw();
  }

  enlarge(factor) { this.zoom = Math.min(8, Math.max(0.3, this.zoom * factor)); this.draw(); }
  repeat(count) { this.repeats = count; this.draw(); }

  // Everything to draw: atoms, and the cell's edges cut in pieces so that atoms can hide some.
  scene() {
    const { positions, numbers, fixed, cell, edges } = this.structure, items = [];
    const range = edges.length ? [...Array(this.repeats).keys()] : [0];
    for (const i of range) for (const j of range) {
      const shift = along(cell[0], i, cell[1], j);
      positions.forEach((p, n) => items.push({
        at: p.map((x, k) => x + shift[k]), number: numbers[n], fixed: fixed[n] }));
    }
    for (const [a, b] of edges) for (let k = 0; k < 12; k++)
      items.push({ line: [k / 12, (k + 1) / 12].map(s => a.map((x, m) => x + s * (b[m] - x))) });
    return items;
  }

  draw() {
    const { canvas } = this, ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth * ratio, height = canvas.clientHeight * ratio;
    if (!width || !height) return;
    canvas.width = width;
    canvas.height = height;
    const pen = canvas.getContext("2d"), items = this.scene();
    const points = items.flatMap(item => item.line || [item.at]);
    if (!points.length) return;
    const bounds = [0, 1, 2].map(k => points.reduce(
      ([low, high], p) => [Math.min(low, p[k]), Math.max(high, p[k])], [Infinity, -Infinity]));
    const middle = bounds.map(([low, high]) => (low + high) / 2);
    const reach = Math.hypot(...bounds.map(([low, high]) => high - low)) / 2 + 1;
    const scale = this.zoom * Math.min(width, height) / 2 / (0.88 * reach);
    const seen = p => {
      const [x, y, z] = apply(this.rotation, p.map((c, k) => c - middle[k]));
      return [width / 2 + scale * x, height / 2 - scale * y, z];
    };
    for (const item of items) item.on = (item.line || [item.at]).map(seen);
    const depth = item => item.on.reduce((sum, p) => sum + p[2], 0) / item.on.length;
    items.sort((a, b) => depth(a) - depth(b));
    const paper = css("--picture").match(/\d+/g).map(Number);
    pen.strokeStyle = css("--ink");
    pen.lineWidth = 1.2 * ratio;
    for (const item of items) {
      const [[x, y], end] = item.on;
      if (item.line) {
        pen.beginPath();
        pen.moveTo(x, y);
        pen.lineTo(end[0], end[1]);
        pen.stroke();
      } else {
        const { radius, colour } = this.elements[item.number], r = radius * scale;
        pen.drawImage(sphere(item.fixed ? mix(colour, paper, 0.68) : colour), x - r, y - r, 2 * r, 2 * r);
      }
    }
  }
}

for (const gallery of document.querySelectorAll(".gallery")) {
  const data = JSON.parse(gallery.querySelector("script").textContent);
  const grid = gallery.querySelector(".grid"), figures = [...grid.children];
  const viewers = figures.map((figure, n) =>
    new Viewer(figure.querySelector("canvas"), data.structures[n], data.elements));
  const control = name => gallery.querySelector(`[name=${name}]`);
  control("repeat").addEventListener("change", event =>
    viewers.forEach(viewer => viewer.repeat(event.target.checked ? 2 : 1)));
  control("view").addEventListener("change", event =>
    viewers.forEach(viewer => viewer.look(event.target.value)));
  control("sort").addEventListener("change", event => {
    const value = n => data.structures[n].facts[event.target.value] ?? Infinity;
    const order = figures.map((_, n) => n).sort((a, b) =>
      (value(a) > value(b)) - (value(a) < value(b)) || a - b);
    order.forEach(n => grid.append(figures[n]));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    viewers.forEach(viewer => viewer.draw()));
}
document.documentElement.dataset.ready = "yes";

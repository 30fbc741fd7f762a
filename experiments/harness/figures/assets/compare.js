"use strict";
// Compares runs: a picker, a table that sorts, energy histograms and learning curves (chart.js). The data
// is in the section's JSON; a run is its number there, and random search null.
{
  const home = document.querySelector("section.drawn");
  const data = JSON.parse(home.querySelector("script").textContent);
  const DASHES = ["", "7 3", "2 2.5", "8 3 2 3"];
  // How a run looks: a colour, and a dash where the colours come again. Black is the ink of the page.
  const COLOURS = data.colours.map(colour => colour === "#000000" ? "var(--ink)" : colour);
  const strokeOf = run => ({
    stroke: COLOURS[run % COLOURS.length],
    "stroke-dasharray": DASHES[Math.floor(run / COLOURS.length) % DASHES.length] });
  const look = run => run === null ? { "data-reference": "", stroke: "var(--quiet)" }
    : { "data-run": run, ...strokeOf(run) };
  const sample = run => run === null ? make("i", { class: "reference" }) : svg("svg", { class: "sample", viewBox: "0 0 28 10", "aria-hidden": "true" },
    svg("path", { ...strokeOf(run), d: "M0 5H28" }));
  const name = run => run === null ? "random search" : data.runs[run].name;
  const reading = (run, text) => [sample(run), name(run), text];
  const all = data.runs.map((_, run) => run);

  // The picker

  const boxes = all.map(run => make("input", { type: "checkbox", name: "run", value: run }));
  const picked = () => all.filter(run => boxes[run].checked);
  const button = (text, action) => {
    const element = make("button", { type: "button" }, text);
    element.addEventListener("click", action);
    return element;
  };
  const pick = wanted => { boxes.forEach((box, run) => { box.checked = wanted(run); }); update(); };
  const chips = all.map(run => make("label", { class: "chip", title: data.runs[run].path },
    boxes[run], sample(run), make("span", {}, name(run))));
  chips.forEach((chip, run) => {
    for (const event of ["pointerenter", "focusin"]) chip.addEventListener(event, () => point(run));
    for (const event of ["pointerleave", "focusout"]) chip.addEventListener(event, () => point(null));
    boxes[run].addEventListener("change", () => update());
  });
  const picker = make("fieldset", { class: "picker" }, make("legend", {}, "Draw"),
    make("div", { class: "chips" }, ...chips),
    make("div", { class: "buttons" }, button("All", () => pick(() => true)),
      button("None", () => pick(() => false))));
  document.querySelector("main").prepend(picker);
  function point(run) {  // the others step back
    for (const element of home.querySelectorAll("[data-run]"))
      element.classList.toggle("faint", run !== null && +element.dataset.run !== run);
  }

  // The table

  const heading = text => make("h2", {}, text);
  const isWords = column => column.cells.some(({ value }) => typeof value === "string");
  const rows = all.map(run => make("tr", { "data-run": run },
    make("th", { scope: "row" }, make("span", { class: "name" }, sample(run), name(run))),
    ...data.columns.map(column => {
      const { text } = column.cells[run];
      return make("td", { class: isWords(column) ? "words" : "", title: text.length > 30 ? text : "" }, text);
    })));
  const body = make("tbody", {}, ...rows);
  const heads = [];
  function sortBy(head, key) {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), undefined, { numeric: true });
    const order = [...all].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;  // last, both ways
      return sign * compare(x, y) || a - b;
    });
    body.append(...order.map(run => rows[run]));
  }
  function head(text, unit, title, key) {
    const inside = make("button", { type: "button", title }, make("span", {}, text),
      make("small", {}, unit));
    const cell = make("th", { scope: "col" }, inside);
    inside.addEventListener("click", () => sortBy(cell, key));
    heads.push(cell);
    return cell;
  }
  function table() {
    const names = make("tr", {}, head("run", "", "the run's name", name));
    const groups = make("tr", { class: "groups" }, make("td"));
    data.columns.forEach((column, n) => {
      const title = [column.key, ...column.also].join("\n");
      names.append(head(column.name, column.unit, title, run => column.cells[run].value));
      if (isWords(column)) names.lastChild.classList.add("words");
      const before = data.columns[n - 1];
      const same = before && before.group === column.group && before.main === column.main;
      if (same) groups.lastChild.colSpan += 1;
      else groups.append(make("th", { scope: "colgroup", class: column.main ? "" : "minor" },
        column.group));
      if (!column.main) for (const cell of [names.lastChild, ...rows.map(row => row.children[n + 1])])
        cell.classList.add("minor");
      if (!same) for (const cell of [groups.lastChild, names.lastChild,
        ...rows.map(row => row.children[n + 1])]) cell.classList.add("first");
    });
    const whole = make("table", {}, make("thead", {}, groups, names), body);
    home.append(make("div", { class: "wide" }, whole));
    const minor = data.columns.filter(column => !column.main).length;
    if (minor) {
      const box = make("input", { type: "checkbox", name: "minor" });
      whole.classList.add("brief");
      box.addEventListener("change", () => whole.classList.toggle("brief", !box.checked));
      home.append(make("p", { class: "controls" }, make("label", {}, box, `${minor} more columns`)));
    }
    if (!data.same.length) return;
    const list = make("dl", {}, ...data.same.map(({ key, text }) =>
      make("div", {}, make("dt", {}, key), make("dd", {}, text))));
    home.append(make("details", {}, make("summary", {},
      `${data.same.length} values are the same wherever they are set`), list));
  }

  // Energies

  const select = (name, text, options) => {
    const element = make("select", { name }, ...options.map(([value, shown]) =>
      make("option", { value }, shown)));
    element.addEventListener("change", () => update());
    return [element, make("label", {}, text, element)];
  };
  const [kind, kindLabel] = select("kind", "Structures", [["gen_relaxed", "relaxed"], ["gen", "as generated"]]);
  const [width, widthLabel] = select("width", "Bins",
    [2, 1].map(count => [count, `${count * (data.edges[1] - data.edges[0])} eV`]));
  const [layout, layoutLabel] = select("layout", "Runs", [["over", "over each other"], ["below", "one below the other"]]);
  const note = make("p", { class: "quiet", "data-note": "energies" });
  const charts = make("div", { class: "charts energies" });

  const join = ({ counts, n }, together) => {  // shares of all, also of what lies outside
    const inside = counts.slice(1, -1), shares = [];
    for (let k = 0; k < inside.length; k += together)
      shares.push(inside.slice(k, k + together).reduce((a, b) => a + b, 0) / n);
    return { shares, below: counts[0] / n, above: counts[counts.length - 1] / n };
  };
  const everything = [...data.references, ...data.runs.flatMap(run => Object.values(run.energies))];
  function occupied() {  // the same for whatever is picked, so that pictures compare
    const used = data.edges.slice(0, -1).map((_, k) => k)
      .filter(k => everything.some(one => one.counts[k + 1]));
    const from = used[0] ?? 0, to = used[used.length - 1] ?? data.edges.length - 2;
    return [from - from % 2, to + 2 - to % 2];
  }
  // Steps from the axis up and back to it; nothing where nothing is, else runs hide the axis.
  const outline = (shares, edges) => shares.flatMap((share, k) => share === 0 ? [[edges[k], null]] : [
    ...(shares[k - 1] ? [] : [[edges[k], 0]]), [edges[k], share], [edges[k + 1], share],
    ...(shares[k + 1] ? [] : [[edges[k + 1], 0]])]);
  const percent = share => `${short(100 * share)} %`;
  function energies() {
    const together = +width.value, edges = data.edges.filter((_, k) => k % together === 0);
    const [from, to] = occupied().map(k => k / together);
    const shown = picked().filter(run => data.runs[run].energies[kind.value]);
    const used = [...new Set(shown.map(run => data.runs[run].reference).filter(n => n !== null))];
    const drawn = run => run === null ? null : data.runs[run].energies[kind.value];
    const all = [...used.map(n => [null, data.references[n]]), ...shown.map(run => [run, drawn(run)])]
      .map(([run, one]) => ({ run, median: one.median, n: one.n, name: one.name, ...join(one, together) }));
    const alone = shown.filter(run => data.runs[run].own_zero).map(name);
    const groups = (runs, of) => [...new Set(runs.map(of))].map(value =>
      `${value} (${runs.filter(run => of(run) === value).map(name).join(", ")})`);
    const calculators = groups(shown, run => data.runs[run].calculator ?? "not recorded");
    const zeros = groups(shown.filter(run => !data.runs[run].own_zero), run =>
      data.references[data.runs[run].reference]?.name ?? "a search that is not at hand");
    const zero = alone.length === shown.length ? "of the run"
      : alone.length ? "of random search or run" : "of random search";
    const tallest = Math.max(0.05, ...all.flatMap(one => one.shares.slice(from, to)));
    const plot = some => ({
      x: [edges[from], edges[to]], y: [0, 1.08 * tallest], format: y => `${Math.round(100 * y)} %`,
      xLabel: `eV above the lowest ${zero}`, yLabel: "share per bin",
      shapes: some.map(({ run, shares }) => ({ look: look(run), steps: true,
        area: run === null || some.filter(one => one.run !== null).length <= 3,
        points: outline(shares.slice(from, to), edges.slice(from)) })),
      medians: some.map(({ run, median }) => ({ look: look(run), x: median }))
        .filter(({ x }) => x >= edges[from] && x <= edges[to]),
      stops: edges.slice(from, to).map((edge, k) => ({
        x: (edge + edges[from + k + 1]) / 2,
        title: `${short(edge)} to ${short(edges[from + k + 1])} eV`,
        lines: () => some.map(one => [one.run, one.shares[from + k]]).sort((a, b) => b[1] - a[1])
          .map(([run, share]) => reading(run, percent(share))) })) });
    const references = all.filter(one => one.run === null), runs = all.filter(one => one.run !== null);
    const panels = layout.value === "over" ? [[`Energies, ${kind.selectedOptions[0].text}`, all, 360]] : runs.map(one =>
      [`${name(one.run)}: median ${short(one.median)} eV of ${one.n}`, [...references, one], 170]);
    fit(charts, runs.length ? panels.map(([title, some, height]) => [title, height, plot(some)]) : []);
    const without = picked().filter(run => !shown.includes(run)).map(name);
    const beyond = all.filter(one => one.below || one.above);
    const most = percent(Math.max(...beyond.map(one => one.below + one.above)));
    const outside = beyond.length > 5 ? [`${beyond.length} runs, each with at most ${most}`]
      : beyond.map(one => `${one.run === null ? one.name : name(one.run)} (${percent(one.below + one.above)})`);
    note.textContent = [
      runs.length ? "A triangle and its line mark a median." : "No run with energies is picked.",
      ...references.map(one => `Grey: ${one.name}, median ${short(one.median)} eV.`),
      calculators.length > 1 ? `Energies of different calculators, which do not compare: ${calculators.join("; ")}.` : "",
      zeros.length > 1 ? `Zeros differ: the lowest of ${zeros.join("; ")}.` : "",
      alone.length ? `Relative to their own lowest, as there is no random search to compare with: ${alone.join(", ")}.` : "",
      outside.length ? `Outside the bins: ${outside.join(", ")}.` : "",
      without.length && runs.length ? `Without energies: ${without.join(", ")}.` : ""].join(" ");
  }
  function fit(parent, wanted) {  // charts are kept while only their content changes
    const titles = wanted.map(([title, height]) => `${title}|${height}`).join("\n");
    if (parent.dataset.titles !== titles) {
      parent.dataset.titles = titles;
      parent.charts = wanted.map(([title, height]) => new Chart(title, height));
      parent.replaceChildren(...parent.charts.map(chart => chart.figure));
    }
    wanted.forEach(([, , plot], n) => parent.charts[n].show(plot));
  }

  // Learning curves

  const [scale, scaleLabel] = select("scale", "Vertical axis",
    [["auto", "as fits"], ["linear", "linear"], ["log", "logarithmic"]]);
  const curves = make("div", { class: "charts curves" });
  const noCurves = make("p", { class: "quiet", "data-note": "curves" });
  function learning() {
    const chosen = new Set(picked()), wanted = [];
    for (const { title, unit, lines } of data.curves) {
      const some = lines.filter(({ run }) => chosen.has(run));
      const values = some.flatMap(line => line.values).filter(value => value !== null);
      if (!values.length) continue;
      const steps = some.flatMap(line => line.steps);
      let [low, high] = [values, values].map((v, k) => v.reduce((a, b) => k ? Math.max(a, b) : Math.min(a, b)));
      const log = low > 0 && (scale.value === "log" || (scale.value === "auto" && high > 8 * low));
      const margin = log ? 0 : 0.06 * (high - low) || Math.abs(high) * 0.1 || 1;
      [low, high] = log ? [low / 1.15, high * 1.15] : [low - margin, high + margin];
      const stops = [...new Set(steps)].sort((a, b) => a - b).map(step => ({
        x: step, title: `step ${step}`,
        lines: () => some.map(({ run, steps, values }) => [run, values[steps.indexOf(step)]])
          .filter(([, value]) => value !== undefined && value !== null).sort((a, b) => a[1] - b[1])
          .map(([run, value]) => reading(run, short(value))) }));
      wanted.push([title, 250, { x: [0, Math.max(...stops.map(stop => stop.x), 1)], y: [low, high], log,
        format: short, xLabel: "step", yLabel: unit, stops,
        shapes: some.map(({ run, steps, values }) => ({ look: look(run), points: steps.map((s, k) => [s, values[k]]) })) }]);
    }
    fit(curves, wanted);
    noCurves.textContent = wanted.length ? "" : "No run with learning curves is picked.";
  }

  // Structures: the page's gallery shows those of the picked runs.

  const gallery = document.querySelector(".gallery"), figures = [...document.querySelectorAll(".structure")];
  const owners = gallery ? JSON.parse(gallery.querySelector("script").textContent).structures
    .map(({ facts }) => data.runs.findIndex(run => run.name === facts.run)) : [];
  figures.forEach((figure, n) => figure.querySelector("figcaption").prepend(sample(owners[n])));
  const titles = new Map([...new Set(owners)].map(run =>
    [run, make("h3", {}, sample(run), make("span", {}, name(run)))]));
  const order = gallery && gallery.querySelector("[name=sort]");
  function group() {  // a row for each run, unless the structures are sorted
    for (const [run, title] of titles) figures[owners.indexOf(run)].before(title);
    const chosen = new Set(picked());
    for (const [run, title] of titles) title.hidden = order.value !== "" || !chosen.has(run);
  }
  if (order) order.addEventListener("change", group);

  function update() {
    const chosen = new Set(picked());
    rows.forEach((row, run) => row.classList.toggle("off", !chosen.has(run)));
    figures.forEach((figure, n) => { figure.hidden = !chosen.has(owners[n]); });
    if (order) group();
    energies();
    learning();
  }

  table();
  if (everything.length > data.references.length)
    home.append(heading("Energies"), make("div", { class: "controls" }, kindLabel, widthLabel, layoutLabel),
      charts, note);
  if (data.curves.length)
    home.append(heading("Learning curves"), make("div", { class: "controls" }, scaleLabel), curves, noCurves);
  pick(() => true);
}

// Draws the entries that the table shows, AUC against cost. The library is loaded when a chart comes near.
"use strict";
(() => {
  const table = document.querySelector("table.rows");
  const charts = [...document.querySelectorAll(".chart")];
  const { y: metric, title } = document.querySelector(".charts").dataset;
  const library = document.currentScript.dataset.vega;
  const column = new Map([...table.tHead.rows[0].cells].map((head, k) => [head.dataset.key, k]));
  const hint = document.createElement("div");
  hint.className = "hint";
  hint.hidden = true;
  document.body.append(hint);
  let loading;

  const number = (text) => (text === "" || text === undefined ? null : Number(text));
  const auc = (value) => (value === null ? "–" : value.toFixed(3).replace(/^(-?)0\./, "$1."));

  function points(key) {
    const found = [];
    for (const row of table.tBodies[0].rows) {
      const final = row.cells[column.get(metric)].dataset;
      if (row.classList.contains("out") || final.v === "") continue;
      const link = row.cells[column.get("method")].querySelector("a");
      found.push({
        name: link.textContent,
        version: row.querySelector(".version").textContent,
        href: link.href,
        tier: row.dataset.tier,
        cost: Number(row.cells[column.get(key)].dataset.v),
        auc: Number(final.v),
        low: number(final.low),
        high: number(final.high),
        kind: row.classList.contains("bound") ? "upper bound" : row.dataset.tier === "self-reported" ? "self-reported" : "other",
      });
    }
    return found;
  }

  // Continual methods for which none is both cheaper and better; what nobody has checked puts nothing checked behind it.
  function front(entries) {
    const found = [];
    const checked = entries.filter((one) => one.kind === "other");
    const continual = checked.length ? checked : entries.filter((one) => one.kind !== "upper bound");
    for (const one of continual.sort((a, b) => a.cost - b.cost || b.auc - a.auc)) {
      if (!found.length || one.auc > found[found.length - 1].auc) found.push(one);
    }
    return found;
  }

  function ticks(entries, least) {
    const most = Math.max(least * 10, ...entries.map((one) => one.cost));
    const found = [0];
    for (let tick = least; tick < most * 10; tick *= 10) found.push(tick);
    return found;
  }

  function specification(box, entries, best) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const seconds = box.dataset.x === "fit_seconds";
    const least = seconds ? 0.1 : 100;
    const values = ticks(entries, least);
    const end = values[values.length - 1];
    const x = {
      field: "cost", type: "quantitative", title: box.dataset.title,
      scale: { type: "symlog", constant: least, domain: [0, end], nice: false },
      axis: { values, labelExpr: seconds ? "'' + datum.value" : "format(datum.value, '~s')" },
    };
    const y = { field: "auc", type: "quantitative", title, scale: { zero: false, nice: true } };
    const kinds = ["Pareto front", "other", "self-reported", "upper bound"];
    const line = best.map((one) => ({ cost: one.cost, auc: one.auc }));
    if (line.length) line.push({ cost: end, auc: line[line.length - 1].auc });
    const layers = [
      {
        data: { values: line },
        mark: { type: "line", interpolate: "step-after", color: colour("front"), strokeWidth: 1.5, clip: true },
        encoding: { x, y },
      },
      {
        mark: { type: "point", filled: true, size: entries.length > 200 ? 25 : 70, opacity: 0.85, cursor: "pointer" },
        encoding: {
          x, y,
          color: { field: "kind", type: "nominal", title: null, scale: { domain: kinds, range: ["front", "other", "claim", "bound"].map(colour) } },
          shape: { field: "kind", type: "nominal", title: null, scale: { domain: kinds, range: ["diamond", "circle", "square", "triangle-up"] } },
        },
      },
    ];
    if (entries.length <= 40) {
      layers.unshift({
        mark: { type: "rule", color: colour("faint"), opacity: 0.5 },
        encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" } },
      });
    }
    const faint = colour("line");
    const ink = colour("ink");
    return {
      width: "container",
      height: 280,
      autosize: { type: "fit", contains: "padding" },
      background: null,
      data: { values: entries },
      layer: layers,
      config: {
        font: "system-ui, sans-serif",
        axis: { labelColor: ink, titleColor: ink, gridColor: faint, domainColor: faint, tickColor: faint, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400 },
        legend: { labelColor: ink, labelFontSize: 12, orient: "bottom", direction: "horizontal", columns: box.clientWidth < 480 ? 2 : 4 },
        view: { stroke: null },
      },
    };
  }

  function tell(event, item) {
    const one = item && item.datum;
    hint.hidden = !one || one.name === undefined;
    if (hint.hidden) return;
    const interval = one.low === null ? "" : ` (${auc(one.low)} to ${auc(one.high)})`;
    hint.textContent = `${one.name} ${one.version}\n${title} ${auc(one.auc)}${interval}\n${one.cost.toLocaleString("en", { maximumFractionDigits: 2 })} ${event.unit}\n${one.kind}, ${one.tier}`;
    hint.style.left = `${Math.max(0, Math.min(event.x + 14, innerWidth - hint.offsetWidth - 8))}px`;
    hint.style.top = `${Math.max(0, event.y - hint.offsetHeight - 10)}px`;
  }

  async function draw(box) {
    await (loading ??= load());
    const entries = points(box.dataset.x);
    const best = front(entries);
    for (const one of best) one.kind = "Pareto front";
    entries.sort((a, b) => (a.kind === "Pareto front") - (b.kind === "Pareto front")); // The last is drawn on top.
    const old = box.view;
    if (!entries.length) {
      if (old) old.finalize();
      box.view = null;
      box.removeAttribute("role");
      box.removeAttribute("aria-label");
      box.textContent = `No entry that fits has a ${title}.`;
      return;
    }
    const made = await vegaEmbed(box, specification(box, entries, best), {
      mode: "vega-lite",
      ast: true, // Expressions are interpreted: nothing is evaluated, as the page's policy demands.
      actions: false,
      renderer: "svg",
      defaultStyle: false,
      tooltip: () => {},
    });
    if (old) old.finalize();
    box.view = made.view;
    const unit = box.dataset.title;
    made.view.addEventListener("mousemove", (event, item) => tell({ x: event.clientX, y: event.clientY, unit }, item));
    made.view.addEventListener("mouseout", () => (hint.hidden = true));
    made.view.addEventListener("click", (event, item) => {
      if (item && item.datum && item.datum.href) location.href = item.datum.href;
    });
    // What it shows is said in a sentence, not by a hundred marks.
    box.querySelector("svg").setAttribute("aria-hidden", "true");
    const named = best.map((one) => `${one.name} ${one.version}`).join(", ") || "empty";
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `${title[0].toUpperCase()}${title.slice(1)} against ${unit} of ${entries.length} entries. Pareto front, by rising cost: ${named}. The table holds the numbers.`);
  }

  function load() {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = library;
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    });
  }

  const near = new Set();
  let waiting;
  function redraw() {
    clearTimeout(waiting);
    waiting = setTimeout(() => near.forEach(draw), 150);
  }
  const watcher = new IntersectionObserver((seen) => {
    for (const one of seen) {
      if (one.isIntersecting && !near.has(one.target)) {
        near.add(one.target);
        draw(one.target);
      }
    }
  }, { rootMargin: "200px" });
  charts.forEach((box) => watcher.observe(box));
  document.addEventListener("shown", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();

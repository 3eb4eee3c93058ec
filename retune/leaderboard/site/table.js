// Sorts and filters the table of entries; what is chosen stands in the link, so that a view can be sent.
"use strict";
(() => {
  const table = document.querySelector("table.rows");
  const form = document.querySelector("form.filters");
  const status = form.querySelector("[role=status]");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const place = new Map(rows.map((row, k) => [row, k]));
  const fields = [...form.elements].filter((field) => field.name);
  const initial = heads.find((head) => head.hasAttribute("aria-sort"));
  const start = initial ? { key: initial.dataset.key, way: initial.getAttribute("aria-sort") } : { key: "", way: "" };
  status.tabIndex = -1;
  const more = form.querySelector(".more");
  const many = 100;
  let sorted = { ...start };
  let all = false;

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const other = sorted.way === "ascending" ? "descending" : "ascending";
      sorted = { key: head.dataset.key, way: sorted.key === head.dataset.key ? other : head.dataset.first };
      show();
      keep();
    });
    head.replaceChildren(button);
  }

  const isBound = (row) => row.classList.contains("bound");

  // Upper bounds come last, then whatever has no value before them.
  function sort() {
    const column = heads.findIndex((head) => head.dataset.key === sorted.key);
    heads.forEach((head, k) => (k === column ? head.setAttribute("aria-sort", sorted.way) : head.removeAttribute("aria-sort")));
    const text = column >= 0 && ["method", "track", "backbone"].includes(sorted.key);
    const sign = sorted.way === "descending" ? -1 : 1;
    const value = new Map(rows.map((row) => [row, column < 0 ? "" : row.cells[column].dataset.v]));
    const compare = (a, b) => {
      const [x, y] = [value.get(a), value.get(b)];
      if (isBound(a) !== isBound(b)) return isBound(a) - isBound(b);
      if (x === y) return place.get(a) - place.get(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      return (sign * (text ? x.localeCompare(y, "en") : x - y)) || place.get(a) - place.get(b);
    };
    rows.sort(compare);
    body.append(...rows);
  }

  function filter() {
    const wanted = fields.filter((field) => field.value !== "");
    let found = 0;
    for (const row of rows) {
      const fits = wanted.every((field) =>
        field.name === "q"
          ? row.textContent.toLowerCase().includes(field.value.trim().toLowerCase())
          : row.dataset[field.name] === field.value,
      );
      found += fits;
      row.classList.toggle("out", !fits);
      row.classList.toggle("late", fits && found > many && !all);
    }
    const shown = all ? found : Math.min(found, many);
    const which = shown < found ? `the first ${shown} of ${found} that fit, of` : `${found} of`;
    const entries = rows.length === 1 ? "entry" : "entries";
    status.textContent = found ? `Showing ${which} ${rows.length} ${entries}.` : `None of ${rows.length} ${entries} fits: change a filter, or show all.`;
    more.hidden = shown === found;
  }

  function show() {
    sort();
    narrow();
  }

  function narrow() {
    filter();
    document.dispatchEvent(new Event("shown"));
  }

  function keep() {
    const state = new URLSearchParams();
    for (const field of fields) if (field.value !== "") state.set(field.name, field.value);
    if (sorted.key !== start.key || sorted.way !== start.way) {
      state.set("sort", sorted.key);
      state.set("way", sorted.way);
    }
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    const known = ["sort", ...fields.map((field) => field.name)];
    if (location.hash.length > 1 && !known.some((name) => state.has(name))) return; // A place on the page.
    for (const field of fields) {
      field.value = state.get(field.name) ?? "";
      if (field.value !== (state.get(field.name) ?? "")) field.value = "";
    }
    const head = heads.find((one) => one.dataset.key === state.get("sort"));
    const way = state.get("way");
    sorted = head ? { key: head.dataset.key, way: way === "ascending" || way === "descending" ? way : head.dataset.first } : { ...start };
    show();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  for (const kind of ["input", "change"]) {
    form.addEventListener(kind, () => {
      narrow();
      keep();
    });
  }
  form.addEventListener("reset", () => {
    // Fields are reset after this event.
    setTimeout(() => {
      for (const field of fields) field.value = "";
      sorted = { ...start };
      show();
      keep();
    });
  });
  more.addEventListener("click", () => {
    all = true;
    filter();
    status.focus(); // The button is gone.
  });
  addEventListener("hashchange", restore);
  if (location.hash.length > 1) restore();
  else filter();
})();

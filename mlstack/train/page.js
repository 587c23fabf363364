// Values under the pointer, and runs that are shown or hidden. The page is whole without it.
const SVG = document.querySelector("svg")?.namespaceURI;
const hidden = new Set();

function written(value, unit) {
  if (unit === "%") return `${(value * 100).toFixed(1)} %`;
  if (unit === "bytes") {
    const power = Math.min(4, Math.max(0, Math.floor(Math.log2(Math.max(value, 1)) / 10)));
    return `${(value / 1024 ** power).toFixed(1)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  }
  const short = Math.abs(value) >= 10000 ? Math.round(value) : Number(value.toPrecision(5));
  return short.toLocaleString("en", { maximumSignificantDigits: 6 }) + (unit && ` ${unit}`);
}

function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle; else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function prepare(figure) {
  const svg = figure.querySelector(":scope > svg"), layer = svg.querySelector(".hover");
  const tip = figure.appendChild(Object.assign(document.createElement("div"), { className: "tip gone" }));
  let chart = null;

  function show(event) {
    chart ??= JSON.parse(figure.dataset.chart);
    const [width, height, left, right, bottom, top] = chart.box, [x0, x1, y0, y1] = chart.frame;
    const box = svg.getBoundingClientRect();
    const at = x0 + ((event.clientX - box.left) / box.width * width - left) / (width - left - right) * (x1 - x0);
    const curves = chart.curves.filter((curve) => !hidden.has(curve.run));
    if (!curves.length) return leave();
    const picks = curves.map((curve) => ({ ...curve, point: nearest(curve.points, at) }));
    const x = picks.reduce((a, b) => Math.abs(a.point[0] - at) <= Math.abs(b.point[0] - at) ? a : b).point[0];
    const near = picks.filter((pick) => Math.abs(pick.point[0] - x) <= Math.max((x1 - x0) * 0.03, Math.abs(x - at)));
    const across = (value) => left + (value - x0) / (x1 - x0) * (width - left - right);
    const down = (value) => top + (y1 - value) / (y1 - y0) * (height - top - bottom);
    layer.replaceChildren(
      element("path", { d: `M${across(x)} ${top}V${height - bottom}` }),
      ...near.map((pick) => element("circle", {
        cx: across(pick.point[0]), cy: down(pick.point[1]), r: 3.5, fill: pick.colour })));
    const head = Object.assign(document.createElement("div"), { textContent: `${chart.axis} ${written(x, "")}` });
    const rows = near.sort((a, b) => b.point[1] - a.point[1]).slice(0, 14).map((pick) => {
      const row = document.createElement("div"), dot = document.createElement("i");
      dot.style.background = pick.colour;
      row.append(dot, pick.name, Object.assign(document.createElement("b"), { textContent: written(pick.point[1], chart.unit) }));
      return row;
    });
    tip.replaceChildren(head, ...rows);
    tip.classList.remove("gone");
    const pixel = across(x) / width * box.width, isRight = pixel > box.width * 0.55;
    tip.style.left = isRight ? "" : `${pixel + 12}px`;
    tip.style.right = isRight ? `${box.width - pixel + 12}px` : "";
    tip.style.top = `${box.top - figure.getBoundingClientRect().top + 8}px`;
  }

  function leave() {
    layer.replaceChildren();
    tip.classList.add("gone");
  }

  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerleave", leave);
}

document.querySelectorAll("figure[data-chart]").forEach(prepare);

for (const row of document.querySelectorAll("tr[data-run]")) {
  const run = row.dataset.run, drawn = () => document.querySelectorAll(`svg [data-run="${run}"]`);
  const box = row.querySelector("input");
  box.hidden = false;
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(run); else hidden.add(run);
    drawn().forEach((line) => line.classList.toggle("gone", !box.checked));
  });
  row.addEventListener("pointerenter", () => {
    document.body.classList.add("pick");
    drawn().forEach((line) => line.classList.add("picked"));
  });
  row.addEventListener("pointerleave", () => {
    document.body.classList.remove("pick");
    drawn().forEach((line) => line.classList.remove("picked"));
  });
}

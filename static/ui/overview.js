// How the server fares: plots over the last hour, day or week, and what is so now. For administrators.

import { json, session } from "./net.js";
import { bytes, duration, find, h, moment, setText, svg } from "./dom.js";

const SPANS = { hour: "The last hour", day: "The last day", week: "The last week" };
const EVERY = 15000;
const HEIGHT = 200;
const EDGE = { top: 10, right: 8, bottom: 24, left: 44 };

const number = (value) => value.toLocaleString("en");

// The next round number, so that the axis has whole steps.
function roundUp(most) {
  if (most <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 5, 8, 10].map((factor) => factor * power).find((round) => round >= most);
}

function clockOf(text, span) {
  const date = moment(text);
  if (span === "week") return date.toLocaleDateString("en", { weekday: "short", day: "numeric" });
  return date.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hour12: false });
}

// The room of a plot, its axes, and how values become places in it.
function room(points, span, width, most) {
  const [inner, high] = [width - EDGE.left - EDGE.right, HEIGHT - EDGE.top - EDGE.bottom];
  const top = roundUp(most);
  const step = inner / points.length;
  const x = (at) => EDGE.left + at * step;
  const y = (value) => EDGE.top + high * (1 - value / top);
  const lines = [0, 0.5, 1].map((part) => {
    const at = y(top * part);
    return [
      svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: at, y2: at }),
      svg("text", { class: "tick", x: EDGE.left - 6, y: at + 4, "text-anchor": "end" }, number(top * part)),
    ];
  });
  const labels = Math.max(2, Math.min(6, Math.floor(width / 120)));
  const times = Array.from({ length: labels }, (_, at) => {
    const index = Math.round((at * (points.length - 1)) / (labels - 1));
    const anchor = at === 0 ? "start" : at === labels - 1 ? "end" : "middle";
    const place = { class: "tick", x: x(index + 0.5), y: HEIGHT - 6, "text-anchor": anchor };
    return svg("text", place, clockOf(points[index].at, span));
  });
  return { x, y, step, axes: [lines, times] };
}

// What a pointer that rests on a step is told.
function tips(points, { x, step }, text) {
  return points.map((point, at) =>
    svg(
      "rect",
      { class: "tip", x: x(at), y: EDGE.top, width: step, height: HEIGHT - EDGE.top - EDGE.bottom },
      svg("title", {}, `${point.at} UTC: ${text(point)}`),
    ),
  );
}

const path = (points, { x, y }, name) =>
  points.map((point, at) => `${at ? "L" : "M"}${x(at + 0.5).toFixed(1)} ${y(point[name]).toFixed(1)}`).join("");

// Stacked bars of what has ended, and the line of what was submitted.
function donePlot({ points, span }, width) {
  const ended = (point) => point.finished + point.failed + point.cancelled;
  const most = Math.max(...points.map((point) => Math.max(ended(point), point.submitted)));
  const made = room(points, span, width, most);
  const bars = points.flatMap((point, at) => {
    let below = 0;
    return ["finished", "failed", "cancelled"].map((name) => {
      const [from, to] = [below, below + point[name]];
      below = to;
      if (from === to) return null;
      const gap = made.step > 4 ? 1 : 0;
      const size = { width: made.step - gap, height: made.y(from) - made.y(to) };
      return svg("rect", { class: `bar-${name}`, x: made.x(at) + gap / 2, y: made.y(to), ...size });
    });
  });
  const line = svg("path", { class: "line-submitted", d: path(points, made, "submitted") });
  const text = (point) =>
    `${point.submitted} submitted, ${point.finished} finished, ${point.failed} failed, ${point.cancelled} cancelled`;
  return [made.axes, bars, line, tips(points, made, text)];
}

function loadPlot({ points, span }, width) {
  const made = room(points, span, width, Math.max(...points.map((point) => Math.max(point.running, point.waiting))));
  const lines = ["waiting", "running"].map((name) =>
    svg("path", { class: `line-${name}`, d: path(points, made, name) }),
  );
  return [made.axes, lines, tips(points, made, (point) => `${point.running} running, ${point.waiting} waiting`)];
}

const sum = (points, name) => points.reduce((all, point) => all + point[name], 0);
const most = (points, name) => Math.max(...points.map((point) => point[name]));

const PLOTS = [
  {
    id: "plot-done",
    title: "Submitted and ended",
    draw: donePlot,
    columns: ["submitted", "finished", "failed", "cancelled"],
    told: ({ points }) =>
      `${sum(points, "submitted")} submitted, ${sum(points, "finished")} finished, ${sum(points, "failed")} failed, ` +
      `${sum(points, "cancelled")} cancelled in all`,
  },
  {
    id: "plot-load",
    title: "Running and waiting",
    draw: loadPlot,
    columns: ["running", "waiting"],
    told: ({ points }) =>
      `at most ${most(points, "running")} running and ${most(points, "waiting")} waiting; ` +
      `${points.at(-1).running} and ${points.at(-1).waiting} at the end`,
  },
];

function asTable({ points }, columns, title) {
  const head = ["Time (UTC)", ...columns].map((name) => h("th", { scope: "col" }, name));
  const rows = points
    .toReversed()
    .map((point) =>
      h("tr", {}, h("th", { scope: "row" }, point.at), columns.map((name) => h("td", {}, number(point[name])))),
    );
  const made = h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
  return h("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": `${title}, as a table` }, made);
}

// One plot with its legend and its table; `show` draws what was told.
function figure({ id, title, draw, columns, told }) {
  const place = h("div", { class: "plot" });
  const table = h("details", { class: "as-table" }, h("summary", {}, "As a table"));
  const caption = h("figcaption", {}, title, h("span", { class: "soft", id: `${id}-step` }));
  const legend = h("p", { class: "legend" }, columns.map((name) => h("span", { class: `key-${name}` }, name)));
  const node = h("figure", { id }, caption, legend, place, table);
  let data = null;
  const redraw = () => {
    if (!data) return;
    const width = Math.max(place.clientWidth, 200);
    const label = `${title}: ${told(data)}.`;
    const size = { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT };
    place.replaceChildren(svg("svg", { role: "img", "aria-label": label, ...size }, draw(data, width)));
  };
  const fill = () => {
    if (!table.open || !data) return;
    const scrolled = table.querySelector(".scroll")?.scrollTop ?? 0;
    table.querySelector(".scroll")?.remove();
    const made = asTable(data, columns, title);
    table.append(made);
    made.scrollTop = scrolled;
  };
  table.addEventListener("toggle", fill);
  const sizes = new ResizeObserver(redraw);
  return {
    node,
    show(next) {
      data = next;
      setText(node.querySelector(`#${id}-step`), ` in steps of ${duration(data.step * 1000).replace(/ 0 \w+$/, "")}`);
      redraw();
      fill();
      sizes.observe(place);
    },
    end: () => sizes.disconnect(),
  };
}

const CARDS = [
  ["running", "running", (now) => number(now.running)],
  ["waiting", "waiting", (now) => number(now.waiting)],
  ["sleeping", "waiting for another attempt", (now) => number(now.sleeping)],
  ["oldest", "the oldest waits", ({ oldest_waiting_s: s }) => (s === null ? "–" : duration(s * 1000))],
  ["disk", "taken by results", (now) => bytes(now.result_bytes)],
];

function routesTable(routes) {
  const head = ["Route", "Calls", "p50", "p95"].map((name) => h("th", { scope: "col" }, name));
  const longest = Math.max(...routes.map((route) => route.p95_ms), 1);
  const rows = routes.map((route) =>
    h(
      "tr",
      { "data-route-name": route.route },
      h("th", { scope: "row" }, route.route),
      h("td", { class: "number" }, number(route.count)),
      h("td", { class: "number" }, duration(route.p50_ms)),
      h("td", { class: "number" }, duration(route.p95_ms), durationBar(route, longest)),
    ),
  );
  return [h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)];
}

// How the two compare with the slowest route.
function durationBar({ p50_ms: half, p95_ms: most }, longest) {
  const width = (value) => `${((100 * value) / longest).toFixed(1)}%`;
  return svg(
    "svg",
    { class: "duration", "aria-hidden": "true", width: "100%", height: 6 },
    svg("rect", { class: "bar-most", width: width(most), height: 6 }),
    svg("rect", { class: "bar-half", width: width(half), height: 6 }),
  );
}

export function overview({ main, query, ready, replace, title }) {
  title("Overview");
  const head = h("h1", { tabindex: -1 }, "Overview");
  if (!session.is_admin) {
    main.append(head, h("p", {}, "Only administrators see the overview."));
    return void ready();
  }
  const spanIn = (query) => (query.get("span") in SPANS ? query.get("span") : "hour");
  let span = spanIn(query);
  let asked = new AbortController();
  const figures = PLOTS.map(figure);
  const choice = Object.entries(SPANS).map(([value, text]) =>
    h("label", { class: "chip" }, h("input", { type: "radio", name: "span", value, id: `span-${value}` }), text),
  );
  const error = h("p", { id: "overview-error", class: "failed", role: "alert", hidden: true });
  const empty = h("p", { id: "overview-empty", hidden: true }, "Nothing was submitted in this time.");
  const cards = CARDS.map(([id, text]) =>
    h("div", { "data-now": id }, h("dt", {}, text), h("dd", { class: "number" }, "–")),
  );
  const routes = h("table", { id: "routes" });
  const scroll = { class: "scroll", role: "region", tabindex: 0, "aria-label": "Durations by route, as a table" };
  const durations = h(
    "section",
    { "aria-labelledby": "routes-title", hidden: true },
    h("h2", { id: "routes-title" }, "How long calls took, the busiest routes"),
    h("p", { class: "soft" }, "Half of the calls took no longer than p50, nineteen of twenty no longer than p95."),
    h("div", scroll, routes),
  );
  const change = (event) => {
    span = event.target.value;
    replace(new URLSearchParams(span === "hour" ? {} : { span }));
    load();
  };
  main.append(
    head,
    h("fieldset", { onchange: change }, h("legend", {}, "Time"), choice),
    error,
    h("dl", { id: "cards" }, cards),
    empty,
    h("div", { class: "columns" }, figures.map((one) => one.node)),
    durations,
  );
  find(`span-${span}`).checked = true;

  const show = (told) => {
    CARDS.forEach(([, , value], at) => setText(cards[at].lastElementChild, value(told.now)));
    empty.hidden = sum(told.points, "submitted") + sum(told.points, "finished") + sum(told.points, "failed") > 0;
    for (const one of figures) one.node.hidden = !told.points.length;
    if (told.points.length) for (const one of figures) one.show(told);
    durations.hidden = !told.routes.length;
    routes.replaceChildren(...routesTable(told.routes));
  };
  const load = async () => {
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    try {
      const told = await json(`overview?span=${span}`, { signal });
      if (signal.aborted) return;
      error.hidden = true;
      show(told);
    } catch (failure) {
      if (signal.aborted) return;
      setText(error, failure.message);
      error.hidden = false;
    }
    ready();
  };
  load();
  // These are sums that are kept anyway: asking for them costs next to nothing.
  const timer = setInterval(() => document.visibilityState === "visible" && load(), EVERY);

  return {
    update(next) {
      if (spanIn(next) === span) return;
      span = spanIn(next);
      find(`span-${span}`).checked = true;
      load();
    },
    leave() {
      clearInterval(timer);
      asked.abort();
      for (const one of figures) one.end();
    },
  };
}

// The rows of the list: those that are known, and those that are near the window and therefore in the page.

import { session } from "./net.js";
import { between, h, hasEnded, setBadge, setText, setTime, time } from "./dom.js";

const AHEAD = 12; // rows drawn outside of the window, on either side

// The rows that are known, by falling id.
export class Rows {
  constructor(all = [], isWhole = false) {
    this.all = all;
    this.byRid = new Map(all.map((row) => [row.rid, row]));
    this.isWhole = isWhole; // nothing older is left on the server
  }

  // Where the row of an id is, or would be.
  place(id) {
    let [low, high] = [0, this.all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.all[middle].number > id) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // A row that has come, or changed.
  put(row, isWanted) {
    row.number = Number(row.id);
    const known = this.byRid.get(row.rid);
    // What was said before the end comes after it at times.
    if (known && hasEnded(known) && !hasEnded(row)) return;
    const place = this.place(row.number);
    if (known && isWanted) this.all[place] = row;
    else if (known) this.all.splice(place, 1);
    else if (!isWanted || (!this.isWhole && this.all.length && place === this.all.length)) return;
    else this.all.splice(place, 0, row);
    if (isWanted) this.byRid.set(row.rid, row);
    else this.byRid.delete(row.rid);
  }

  // The newest, as they are now; older ones stay.
  renew(page, isWhole) {
    const last = isWhole ? -1 : page.at(-1).number;
    const older = this.all.slice(this.place(last)).filter((row) => row.number < last);
    if (isWhole || !older.length) this.isWhole = isWhole;
    this.all = page.concat(older);
    this.byRid = new Map(this.all.map((row) => [row.rid, row]));
  }

  // Those behind the last.
  append(page, isWhole) {
    for (const row of page.filter((row) => !this.byRid.has(row.rid))) {
      this.all.push(row);
      this.byRid.set(row.rid, row);
    }
    this.isWhole = isWhole;
  }
}

function cell(name, ...children) {
  return h("div", { role: "cell", class: `c-${name}` }, children);
}

// One row of the page.
function makeRow(row) {
  const parts = {
    status: h("span", { class: "badge", "data-test": "row-status" }),
    method: h("span", { class: "method" }),
    name: h("span", { class: "name" }),
    progress: h("progress", { max: 100, "data-test": "row-progress", "aria-label": "Progress" }),
    percent: h("span", { class: "soft number" }),
    user: h("span", { "data-test": "row-user" }),
    time: time(row.created_dt, { "data-test": "row-time" }),
  };
  const link = h("a", { "data-test": "row-link", href: `#/requests/${row.rid}` }, parts.method, " ", parts.name);
  const node = h(
    "div",
    { role: "row", class: "row", "data-test": "row", "data-rid": row.rid },
    cell("status", parts.status),
    cell("name", link),
    cell("progress", parts.progress, parts.percent),
    session.is_admin ? cell("user", parts.user) : null,
    cell("time", parts.time),
  );
  const made = { node, parts, shown: null };
  showRow(made, row);
  return made;
}

function showRow(made, row) {
  if (made.shown === row) return;
  made.shown = row;
  const { parts } = made;
  const ended = hasEnded(row);
  setBadge(parts.status, row);
  setText(parts.method, row.method ?? "");
  setText(parts.name, row.name);
  parts.name.title = row.name;
  parts.progress.hidden = ended;
  parts.progress.value = Number(row.progress);
  const took = row.started_dt && row.finished_dt ? between(row.started_dt, row.finished_dt) : "";
  setText(parts.percent, ended ? took : `${Math.floor(Number(row.progress))} %`);
  setText(parts.user, `user ${row.user_id}`);
  setTime(parts.time, row.created_dt);
}

// The rows near the window; the room of the others is padding.
export class Window {
  constructor() {
    this.made = new Map();
    this.height = 52;
    const heads = ["Status", "Call", "Progress", session.is_admin ? "User" : null, "Submitted"].filter(Boolean);
    const classes = { Status: "status", Call: "name", Progress: "progress", User: "user", Submitted: "time" };
    const head = heads.map((text) => h("div", { role: "columnheader", class: `c-${classes[text]}` }, text));
    this.body = h("div", { role: "rowgroup", class: "body" });
    const label = { id: "rows", role: "table", "aria-label": "Requests", class: session.is_admin ? "of-all" : "" };
    const top = h("div", { role: "row", class: "row head", "aria-rowindex": 1 }, head);
    this.table = h("div", { ...label, hidden: true }, h("div", { role: "rowgroup" }, top), this.body);
  }

  // How far the rows are scrolled out at the top.
  get above() {
    return -this.body.getBoundingClientRect().top;
  }

  // Draws; gives the index behind the last row that is drawn.
  draw(rows) {
    this.table.hidden = !rows.all.length;
    this.table.setAttribute("aria-rowcount", rows.isWhole ? rows.all.length + 1 : -1);
    const first = Math.max(0, Math.min(Math.floor(this.above / this.height) - AHEAD, rows.all.length));
    const end = Math.ceil((this.above + innerHeight) / this.height) + AHEAD;
    const last = Math.max(first, Math.min(end, rows.all.length));
    const wanted = rows.all.slice(first, last);
    const rids = new Set(wanted.map((row) => row.rid));
    for (const [rid, made] of this.made) {
      if (rids.has(rid)) continue;
      made.node.remove();
      this.made.delete(rid);
    }
    let next = this.body.firstChild;
    wanted.forEach((row, at) => {
      let made = this.made.get(row.rid);
      if (made) showRow(made, row);
      else this.made.set(row.rid, (made = makeRow(row)));
      made.node.setAttribute("aria-rowindex", first + at + 2);
      // Those that are there already are in order: they stay where they are, and keep the focus.
      if (made.node === next) next = next.nextSibling;
      else this.body.insertBefore(made.node, next);
    });
    this.body.style.paddingTop = `${first * this.height}px`;
    this.body.style.paddingBottom = `${(rows.all.length - last) * this.height}px`;
    const height = this.body.firstElementChild?.getBoundingClientRect().height;
    if (height && Math.abs(height - this.height) > 0.01) {
      this.height = height;
      return this.draw(rows);
    }
    return last;
  }

  // Does what changes the rows, and leaves those in sight where they are.
  keeping(rows, change) {
    const above = this.above;
    const at = above > 0 ? Math.floor(above / this.height) : -1;
    const anchor = rows.all[at];
    change();
    const last = this.draw(rows);
    if (anchor && rows.byRid.has(anchor.rid)) {
      const moved = rows.place(anchor.number) - at;
      if (moved) scrollBy({ top: moved * this.height, behavior: "instant" });
    }
    return last;
  }
}

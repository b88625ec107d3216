// The requests, newest first: live, filtered, and only the rows in sight are in the page, however many there are.

import { Failure, call, follow, json, root, session } from "./net.js";
import { find, h, setText } from "./dom.js";
import { fillForm, filterForm, filtersIn, matches, pageOf, queryOf, readForm, showForm } from "./filters.js";
import { Rows, Window } from "./rows.js";

const PAGE = 100;
const MOST = 1000; // that the server gives at once
const EARLY = 60; // rows before the end at which more are asked for

// The rows as they were left, for who comes back.
let left = null;

function findForm() {
  const error = h("p", { id: "find-error", class: "failed", role: "alert", hidden: true });
  const input = h("input", { id: "find-rid", type: "search", autocomplete: "off", spellcheck: "false" });
  const go = (event) => {
    event.preventDefault();
    // Also out of a link, or of the answer to a submission.
    const rid = /[0-9a-f]{32}/i.exec(input.value)?.[0];
    error.hidden = Boolean(rid);
    if (rid) location.hash = `#/requests/${rid.toLowerCase()}`;
    else setText(error, "An id is 32 hexadecimal digits; copy it from the answer to a submission.");
  };
  const button = h("button", { id: "find-go", type: "submit" }, "Open");
  const label = h("label", { for: "find-rid" }, "Find by id");
  return h("form", { id: "find", role: "search", onsubmit: go }, label, input, button, error);
}

// The line that makes a first request.
function firstCurl() {
  const version = session.versions?.at(-1);
  const path = version ? `/v${version}/users/me?bgrs=yes` : "/YOUR/PATH?bgrs=yes";
  return `curl -u ${session.login ?? "LOGIN"} '${root()}${path}'`;
}

function emptyState() {
  const title = h("h2", {}, "Nothing here yet");
  if (session.read_only) {
    return [title, h("p", {}, "You may only look: what others have submitted and told you of, open by its id.")];
  }
  const here = h("a", { id: "first-new", href: "#/new" }, "make one here");
  return [
    title,
    h("p", {}, "Any call of the API runs in the background with ", h("code", {}, "?bgrs=yes"), ". In a terminal:"),
    h("pre", { tabindex: 0 }, h("code", { id: "first-curl" }, firstCurl())),
    h("p", {}, "Or ", here, ". It appears on this page by itself."),
  ];
}

export function requests({ main, query, ready, replace, title }) {
  title("Requests");
  let filters = filtersIn(query);
  let rows = new Rows();
  let round = new AbortController(); // ends with the filters
  let asking = 0;
  let queue = Promise.resolve();
  let failure = null;
  let frame = 0;
  let isLoaded = false;
  const pending = new Map(); // what has come and is not in the rows yet
  const sight = new Window();
  const state = h("div", { id: "list-state", role: "status" });
  const live = h("span", { id: "live", "data-state": "connecting" }, "Connecting…");
  const keyOf = () => `${session.source} ${session.user_id} ${queryOf(filters)}`;

  const showState = () => {
    const any = rows.all.length > 0;
    const kind = failure
      ? "error"
      : !isLoaded
        ? "loading"
        : any
          ? rows.isWhole ? "end" : "more"
          : queryOf(filters).size ? "no-match" : "empty";
    if (state.dataset.state === kind && kind !== "error") return;
    state.dataset.state = kind;
    const button = (id, text, does) => h("button", { id, type: "button", onclick: does }, text);
    const clear = button("no-match-clear", "Clear filters", clearFilters);
    const again = button("list-retry", "Try again", () => (any ? more() : renew()));
    const shown = {
      loading: () => h("p", {}, "Loading…"),
      error: () => [h("p", { class: "failed" }, failure.message), again],
      more: () => h("p", { class: "soft" }, "Loading more…"),
      end: () => h("p", { class: "soft" }, "That is all."),
      "no-match": () => [h("p", {}, "No request matches these filters."), h("p", {}, clear)],
      empty: emptyState,
    }[kind];
    state.replaceChildren(...[shown()].flat(Infinity));
  };

  const drawn = (last) => {
    showState();
    if (last + EARLY > rows.all.length && isLoaded && !rows.isWhole && !asking && !failure) more();
  };
  const draw = () => drawn(sight.draw(rows));

  // At the next frame, with all that has come until then.
  const soon = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (asking || !pending.size) return draw();
      drawn(
        sight.keeping(rows, () => {
          for (const row of pending.values()) rows.put(row, matches(filters, row));
          pending.clear();
        }),
      );
    });
  };

  // One question after the other; what comes meanwhile waits, so that the answer does not undo it.
  const fetchRows = (before, limit, take) => {
    asking += 1;
    const signal = round.signal;
    queue = queue.then(async () => {
      try {
        if (signal.aborted) return;
        const answer = await call(pageOf(filters, before(), limit), { signal });
        const page = await answer.json();
        if (signal.aborted) return;
        for (const row of page) row.number = Number(row.id);
        const isWhole = !/rel="next"/.test(answer.headers.get("Link") ?? "");
        failure = null;
        isLoaded = true;
        sight.keeping(rows, () => take(page, isWhole));
      } catch (error) {
        if (signal.aborted) return;
        failure = error instanceof Failure ? error : new Failure(0, String(error.message));
      } finally {
        asking -= 1;
      }
      showState();
      ready();
      soon();
    });
  };
  const renew = () => {
    const limit = Math.min(Math.max(rows.all.length, PAGE), MOST);
    fetchRows(() => null, limit, (page, isWhole) => rows.renew(page, isWhole));
  };
  const more = () => {
    failure = null;
    const limit = rows.all.length > 5 * PAGE ? 5 * PAGE : PAGE;
    fetchRows(() => rows.all.at(-1)?.id, limit, (page, isWhole) => rows.append(page, isWhole));
    showState();
  };

  const restart = () => {
    round.abort();
    round = new AbortController();
    rows = new Rows();
    pending.clear();
    [failure, isLoaded] = [null, false];
    draw();
    renew();
  };
  const change = () => {
    if (!find("filters")) return;
    filters = readForm();
    showForm(filters);
    replace(queryOf(filters));
    restart();
  };
  const clearFilters = () => {
    filters = filtersIn(new URLSearchParams());
    fillForm(filters);
    replace(new URLSearchParams());
    restart();
    find("filter-name").focus();
  };

  const words = { open: "Live", broken: "Not connected; trying again…" };
  main.append(
    h("div", { class: "title" }, h("h1", { tabindex: -1 }, "Requests"), live),
    h("p", { class: "soft" }, "Calls that the server makes in the background: what waits, what runs, what came of it."),
    findForm(),
    filterForm(change),
    sight.table,
    state,
  );
  find("filter-clear").addEventListener("click", clearFilters);
  fillForm(filters);
  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", soon);
  if (left?.key === keyOf()) {
    rows = new Rows(left.all, left.isWhole);
    isLoaded = true;
    const { scroll } = left;
    sight.draw(rows);
    scrollTo({ top: scroll, behavior: "instant" });
    ready();
  }
  draw();
  renew();
  const close = follow("requests", {
    on: {
      request: (row) => {
        pending.set(row.rid, row);
        soon();
      },
      // There was more than it could tell.
      reload: () => renew(),
    },
    // What has happened before it was open is in the page of the list.
    open: () => renew(),
    state: (now) => {
      live.dataset.state = now;
      setText(live, words[now]);
    },
    fail: (why) => {
      live.dataset.state = "broken";
      setText(live, why.message);
    },
  });

  return {
    update(next) {
      const wanted = filtersIn(next);
      if (String(queryOf(wanted)) === String(queryOf(filters))) return;
      filters = wanted;
      fillForm(filters);
      restart();
    },
    leave() {
      close();
      round.abort();
      cancelAnimationFrame(frame);
      removeEventListener("scroll", soon);
      removeEventListener("resize", soon);
      left = isLoaded ? { key: keyOf(), all: rows.all, isWhole: rows.isWhole, scroll: scrollY } : null;
    },
  };
}

// Whether a request is the caller's own: ids of users of different sources may be alike, the list knows.
export async function isOwn(request) {
  if (request.user_id !== session.user_id) return false;
  const [mine] = await json(`../bgrs?limit=1&before=${Number(request.id) + 1}`);
  return mine?.rid === request.rid;
}

// The walk at the top and the panel at the side. Asks the demo every second; that is declared background, so it
// keeps nobody's session alive.
"use strict";
(() => {
  const { mode, other, run, operators } = window.demo;
  const withBridge = mode === "with";
  const $ = (id) => document.getElementById(id);
  const WAIT = 24_000;
  const WINDOW = 60_000;

  // ── small parts ────────────────────────────────────────────────────────────────────────────────────────────────
  const h = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  };
  const time = (ms) => new Date(ms).toLocaleTimeString("en-GB");
  const left = (ms) => {
    const s = Math.max(0, Math.ceil(ms / 1000));
    if (s < 60) return `${s} s`;
    const m = Math.floor(s / 60);
    const rest = (value) => String(value).padStart(2, "0");
    return m < 60 ? `${m}:${rest(s % 60)} min` : `${Math.floor(m / 60)}:${rest(m % 60)} h`;
  };
  const ago = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    return s === 0 ? "just now" : s < 90 ? `${s} s ago` : `${Math.round(s / 60)} min ago`;
  };
  const set = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  // ── the switch ─────────────────────────────────────────────────────────────────────────────────────────────────
  const away = withBridge ? $("without") : $("with");
  away.href = other + (document.body.classList.contains("start") ? "/" : "/AppA/index.cfm");
  (withBridge ? $("with") : $("without")).setAttribute("aria-current", "true");
  for (const element of document.querySelectorAll("time[data-ms]")) element.textContent = time(+element.dataset.ms);

  const page = $("app");
  if (!page) return;

  // ── the walk ───────────────────────────────────────────────────────────────────────────────────────────────────
  const KEY = "sessionbridge-walk";
  const here = {
    app: page.dataset.app,
    session: page.dataset.session,
    started: +page.dataset.started,
    now: +page.dataset.now,
    out: page.dataset.page === "login",
  };
  let walk = recall();

  function recall() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY));
      if (kept && kept.run === run) return kept;
    } catch { /* no storage: the walk is this page */ }
    return { run };
  }
  function keep() {
    try { localStorage.setItem(KEY, JSON.stringify(walk)); } catch { /* see above */ }
  }

  function arrive() {
    if (here.out) walk = { run };
    else if (here.app === "A") {
      if (!walk.first) walk.first = { session: here.session, started: here.started };
      else if (walk.since && !walk.end) {
        walk.end = { same: walk.first.session === here.session, session: here.session, started: here.started,
          now: here.now, away: here.now - walk.since };
      } else if (!walk.since) walk.first = { session: here.session, started: here.started };
    } else if (walk.first && !walk.since) walk.since = here.now;
    keep();
  }

  function showWalk(now) {
    const [one, two, three] = [$("step-1"), $("step-2"), $("step-3")];
    const step = walk.end ? 4 : !walk.first ? 1 : !walk.since ? 2 : now - walk.since < WAIT ? 2 : 3;
    [one, two, three].forEach((item, at) => {
      item.classList.toggle("done", at + 1 < step);
      item.classList.toggle("now", at + 1 === step);
      if (at + 1 === step) item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
    });
    const waited = walk.since ? Math.min(1, (now - walk.since) / WAIT) : 0;
    two.style.setProperty("--done", walk.end ? 1 : waited);
    if (walk.since && !walk.end) {
      const rest = WAIT - (now - walk.since);
      set($("wait"), rest > 0 ? `Stay away for another ${left(rest)}.` : "That is long enough.");
    } else if (walk.end) set($("wait"), `You were away for ${Math.round(walk.end.away / 1000)} s.`);
    three.classList.toggle("good", Boolean(walk.end?.same));
    three.classList.toggle("bad", Boolean(walk.end && !walk.end.same));
    $("again").hidden = !walk.end;
    if (walk.end) tellEnd(walk.end);
    else if (step === 3) set($("outcome"), "Now go back: is your session still there?");
  }

  function tellEnd({ same, started, now, away: was }) {
    const old = Math.round((now - started) / 1000);
    set($("verdict"), same ? "Same session" : "A new session");
    set($("outcome"), same
      ? `Started ${time(started)}, now ${old} s old.${was < 10_000 ? " Stay longer to see more." : ""}`
      : `Started ${time(started)}. Yours of ${time(walk.first.started)} is gone, hours and all.`);
  }

  $("again").addEventListener("click", () => {
    walk = { run };
    keep();
    location.href = "/AppA/index.cfm";
  });

  // ── the panel ──────────────────────────────────────────────────────────────────────────────────────────────────
  const CLOCKS = {
    idle: ["No activity", "ends this long after your last click"],
    presence: ["Page open", "in its place while one is open"],
    lifetime: ["Lifetime", "ends then, whatever happens"],
  };
  const panel = $("panel");
  const cards = new Map();
  const clocks = new Map();
  let chips;
  let note;
  let vault;
  let events;

  function bar(label) {
    const inner = h("span", { class: "level" });
    const outer = h("div", { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, inner);
    return {
      outer,
      show(part, text) {
        const full = Math.max(0, Math.min(1, part));
        inner.style.transform = `scaleX(${full})`;
        outer.classList.toggle("low", full < 0.34);
        outer.setAttribute("aria-valuenow", Math.round(full * 100));
        outer.setAttribute("aria-valuetext", text);
      },
    };
  }

  function build(state) {
    panel.replaceChildren();
    if (!withBridge) set($("panel-title"), "What the applications see");
    note = h("p", { class: "handle" });
    panel.append(note);
    for (const app of state.apps) panel.append(buildCard(app));
    if (withBridge) {
      const list = h("dl", { class: "clocks" });
      for (const [name, [title, hint]] of Object.entries(CLOCKS)) {
        const parts = { value: h("dd"), bar: bar(title), row: h("div", { title: hint }) };
        parts.row.append(h("dt", {}, title, h("small", {}, hint)), parts.value, parts.bar.outer);
        clocks.set(name, parts);
        list.append(parts.row);
      }
      panel.append(h("section", { class: "box", "aria-label": "The three clocks" }, h("h3", {}, "Three clocks"), list));
    }
    chips = h("p", { class: "chips" });
    vault = h("div", { class: "vault" });
    panel.append(h("section", { class: "box", "aria-label": "Cookies" }, h("h3", {}, "Cookies in this browser"), chips,
      withBridge ? vault
        : h("p", { class: "hint" }, "One pair of names for two applications: whoever answers last takes the other’s place.")));
    if (withBridge) {
      events = h("ol", { class: "events" });
      panel.append(h("details", { class: "box" }, h("summary", {}, "What happened so far"), events));
      panel.append(h("p", { class: "links" }, h("a", { href: "/.bridge/logout" }, "Sign out everywhere"),
        h("a", { href: "/.bridge/status" }, "Status page"), h("a", { href: operators }, "Operators’ view")));
    }
  }

  function buildCard(app) {
    const parts = {
      badge: h("span", { class: "badge" }), who: h("p", { class: "who" }), bar: bar(`Time left in the ${app.title}`),
      count: h("span", { class: "count" }), beat: h("p", { class: "last" }), dots: h("div", { class: "dots", role: "img" }),
    };
    parts.root = h("section", { class: `box card app-${app.name.at(-1)}`, "aria-label": app.title },
      h("header", {}, h("h3", {}, app.title, " ", h("small", {}, app.name)), parts.badge), parts.who,
      h("div", { class: "gauge" }, parts.bar.outer, parts.count), parts.beat, parts.dots,
      h("p", { class: "axis", "aria-hidden": "true" }, h("span", {}, "1 min ago"), legend(), h("span", {}, "now")));
    cards.set(app.name, parts);
    return parts.root;
  }

  function legend() {
    const item = (kind, text) => h("span", { class: "key" }, h("i", { class: `dot ${kind}` }), text);
    return h("span", { class: "legend" }, item("visit", "you"), withBridge ? item("beat", "heartbeat") : null, item("fresh", "new session"));
  }

  const WORDS = { alive: "alive", reborn: "reborn", replaced: "replaced", signed_out: "signed out", unreachable: "unreachable" };

  function showCard(app, now) {
    const parts = cards.get(app.name);
    const { session, bridge } = app;
    const gone = !session && app.last_label;
    const word = bridge?.verdict ? WORDS[bridge.verdict] : session && app.reachable === false ? "out of reach" : session ? "live" : gone ? "gone" : "not visited";
    set(parts.badge, word);
    parts.badge.dataset.kind = word.replaceAll(" ", "-");
    set(parts.who, session ? `Session ${session.label}, started ${time(session.started)}, ${left(now - session.started)} old`
      : gone ? `Session ${app.last_label} has ended: you are forgotten here.` : "No session yet.");
    const rest = session ? session.expires - now : 0;
    const text = session ? `${left(rest)} of ${left(app.timeout)}` : `0 s of ${left(app.timeout)}`;
    parts.bar.show(rest / app.timeout, text);
    set(parts.count, text);
    set(parts.beat, session && app.reachable === false ? "The other application has overwritten its cookies."
      : !withBridge ? "Nobody sends heartbeats."
      : !bridge ? "No heartbeats: there is nothing to keep alive."
      : [bridge.beat_at ? `Last heartbeat ${ago(now - bridge.beat_at)}: ${WORDS[bridge.verdict] ?? "on its way"}` : "No heartbeat needed yet",
        bridge.next == null ? "none planned" : `next in ${left(bridge.next - now)}`].join(" · "));
    showDots(parts.dots, app, now);
  }

  function showDots(box, app, now) {
    const shown = app.dots.filter((dot) => dot.at > now - WINDOW);
    const count = (kind) => shown.filter((dot) => dot.kind === kind).length;
    box.setAttribute("aria-label", `In the last minute: ${count("beat")} heartbeats, ${count("visit")} visits of yours, `
      + `${count("sign_out")} sign-outs, ${shown.filter((dot) => dot.fresh).length} new sessions`);
    while (box.children.length > shown.length) box.lastChild.remove();
    while (box.children.length < shown.length) box.append(h("i"));
    shown.forEach((dot, at) => {
      const mark = box.children[at];
      mark.className = `dot ${dot.fresh ? "fresh" : dot.kind}`;
      mark.style.left = `${100 * (1 - (now - dot.at) / WINDOW)}%`;
    });
  }

  function showClocks(bridge, now) {
    for (const [name, parts] of clocks) {
      const clock = bridge?.clocks.find((one) => one.name === name);
      const runs = clock?.at != null;
      parts.row.classList.toggle("off", !runs);
      const text = runs ? left(clock.at - now) : "–";
      set(parts.value, text);
      parts.bar.show(runs ? (clock.at - now) / clock.limit : 0, text);
    }
  }

  function showCookies(names) {
    const wanted = names.join(" ");
    if (chips.dataset.names === wanted) return;
    chips.dataset.names = wanted;
    const chip = (name) => h("span", { class: name === "bridge" ? "chip" : "chip bad" }, name);
    chips.replaceChildren(...(names.length ? names.map(chip) : ["none"]));
  }

  function showVault(apps) {
    const held = apps.filter((app) => app.bridge?.vault.length);
    const wanted = JSON.stringify(held.map((app) => [app.name, app.bridge.vault]));
    if (vault.dataset.held === wanted) return;
    vault.dataset.held = wanted;
    const line = (app) => h("p", {}, h("span", {}, app.title), ...app.bridge.vault.map((name) => h("span", { class: "chip kept" }, name)));
    vault.replaceChildren(h("span", { class: "hint" }, held.length ? "In the bridge’s vault, out of reach:" : "The bridge’s vault is empty."), ...held.map(line));
  }

  function showEvents(list) {
    const key = `${list.length} ${list.at(-1)?.at}`;
    if (events.dataset.key === key) return;
    events.dataset.key = key;
    const line = (event) => h("li", {}, h("time", {}, time(event.at)), " ",
      [event.app, event.what.replaceAll("_", " "), event.detail].filter(Boolean).join(" · "));
    events.replaceChildren(...list.slice(-12).reverse().map(line));
  }

  // ── what moves them ────────────────────────────────────────────────────────────────────────────────────────────
  let state;
  let offset = 0;
  let cookie = false;
  const now = () => Date.now() + offset;

  function show() {
    const at = now();
    showWalk(at);
    if (!state) return;
    if (!cards.size) build(state);
    set(note, withBridge ? (state.bridge ? `Session ${state.bridge.label} · one person, two applications` : "Nobody’s session: open one of the applications.")
      : "No bridge stands before them.");
    for (const app of state.apps) showCard(app, at);
    if (withBridge) {
      showClocks(state.bridge, at);
      showVault(state.apps);
      showEvents(state.bridge?.events ?? []);
    }
    showCookies([...(cookie ? ["bridge"] : []), ...state.cookies]);
  }

  const ask = async (url) => (await fetch(url, { headers: { accept: "application/json" }, cache: "no-store" })).json();

  async function poll() {
    if (!document.hidden) {
      try {
        const [own, shown] = await Promise.all([withBridge ? ask("/.bridge/status") : null, ask("/demo/state.json")]);
        // The bridge cookie is hidden from scripts and from applications: that the bridge knows this browser shows it.
        cookie = own?.state === "active";
        state = shown;
        offset = state.now - Date.now();
        document.body.classList.remove("lost");
      } catch {
        document.body.classList.add("lost");
      }
      show();
    }
    setTimeout(poll, 1000);
  }

  // A sign that this page is open, as any page of an application may send it.
  function beacon() {
    if (!document.hidden) new Image().src = "/.bridge/beat.gif";
    setTimeout(beacon, 20_000);
  }

  offset = here.now - Date.now();
  arrive();
  show();
  poll();
  if (withBridge) beacon();
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) setInterval(() => document.hidden || show(), 200);
})();

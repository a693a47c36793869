// Keeps the dashboard live: asks each second for the changing part as the server renders it, and changes in the page
// only what is different, so that focus, selection and scroll stay.

const EVERY = 900; // ms: with the answer's own time, a transition shows within a second
const PATIENCE = 5000;
const SLOWEST = 15000;

const live = document.getElementById("live");
const words = document.getElementById("lost")?.dataset; // what to say, in the page's language
let ahead = live ? Number(live.dataset.now) - Date.now() : 0; // of the shared clock over this browser's

// -- time, in the operator's own zone --------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayAndClock = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const UNITS = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];

function duration(seconds) {
  const left = Math.max(0, Math.round(seconds));
  for (const [size, unit, smaller, part] of UNITS) {
    if (left < size) continue;
    const rest = Math.floor((left % size) / smaller);
    return `${Math.floor(left / size)} ${unit}` + (rest ? ` ${rest} ${part}` : "");
  }
  return `${left} s`;
}

function tick() {
  const now = Date.now() + ahead;
  for (const time of document.querySelectorAll("time[data-time]")) {
    const moment = Date.parse(time.dateTime);
    const { time: kind } = time.dataset;
    const sameDay = new Date(moment).toDateString() === new Date(now).toDateString();
    const text = kind === "since" ? duration((now - moment) / 1000)
      : kind === "until" ? duration((moment - now) / 1000)
      : (sameDay ? clock : dayAndClock).format(moment);
    if (time.textContent !== text) time.textContent = text;
  }
}

// -- the page becomes what the server says ---------------------------------------------------------------------------

function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.localName === "details")) old.removeAttribute(name);
  }
  if (old.localName !== "time") patchChildren(old, fresh); // what a time says is tick's
}

function patchChildren(old, fresh) {
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const match = child.id ? known.get(child.id) : place && !place.id && place.nodeName === child.nodeName ? place : null;
    if (!match) old.insertBefore(child, place);
    else {
      if (match === place) place = place.nextSibling;
      else old.insertBefore(match, place);
      patch(match, child);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function show(html) {
  const parsed = document.createElement("template");
  parsed.innerHTML = html;
  const board = document.getElementById("board");
  const before = states();
  const focused = document.activeElement;
  for (const part of [...parsed.content.children]) patch(document.getElementById(part.id), part);
  if (focused !== document.activeElement && board.contains(focused)) focused.focus({ preventScroll: true });
  tell(before);
  dress();
  count();
}

// -- what a screen reader hears, what the tab shows -------------------------------------------------------------------

const states = () =>
  new Map([...document.querySelectorAll("#board [data-state]")].map((card) => [card.dataset.name, card.dataset.state]));

function tell(before) {
  const news = [...states()].filter(([name, state]) => before.has(name) && before.get(name) !== state);
  if (news.length) {
    document.getElementById("told").textContent = news.map(([name, state]) => `${name}: ${state}`).join("; ");
  }
}

function dress() {
  const { title, tone } = document.getElementById("summary").dataset;
  const favicon = document.getElementById("favicon");
  if (document.title !== title) document.title = title;
  if (favicon.getAttribute("href") !== favicon.dataset[tone]) favicon.href = favicon.dataset[tone];
}

function count() {
  const chosen = document.querySelectorAll("#board input:checked").length;
  const shown = document.getElementById("chosen");
  if (shown) shown.textContent = chosen ? ` (${chosen})` : "";
}

// -- asking ------------------------------------------------------------------------------------------------------------

let timer = 0;
let asking = false;
let etag = "";
let newest = 0;
let failures = 0;
let lostSince = null;

function lose(text, link) {
  const banner = document.getElementById("lost");
  if (!banner.textContent.startsWith(text)) {
    banner.textContent = text;
    if (link) banner.append(" ", Object.assign(document.createElement("a"), link));
  }
  banner.hidden = false;
  live.classList.add("stale");
}

function recover() {
  failures = 0;
  lostSince = null;
  document.getElementById("lost").hidden = true;
  live.classList.remove("stale");
}

async function ask() {
  if (asking || document.hidden) return;
  asking = true;
  const begun = performance.now();
  let ended = false;
  try {
    const answer = await fetch(live.dataset.live + location.search, {
      cache: "no-store",
      redirect: "error",
      headers: etag ? { "If-None-Match": etag } : {},
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.status === 401 || answer.status === 403) {
      ended = true;
      const next = encodeURIComponent(location.pathname + location.search);
      lose(answer.status === 401 ? words.ended : words.barred, {
        textContent: words.login,
        href: `${live.dataset.login}?next=${next}`,
      });
      return;
    }
    if (!answer.ok && answer.status !== 304) throw new Error(answer.status);
    const at = Number(answer.headers.get("X-Breaker-At"));
    ahead = at + Number(answer.headers.get("X-Breaker-Age")) - Date.now();
    if (answer.status === 200) {
      const html = await answer.text();
      // Workers read at different moments: an older reading must not undo a newer one.
      if (at >= newest) {
        show(html);
        etag = answer.headers.get("ETag");
      }
    }
    newest = Math.max(newest, at);
    recover();
  } catch {
    failures += 1;
    lostSince ??= new Date();
    if (failures > 1) lose(words.lost.replace("TIME", clock.format(lostSince)));
  } finally {
    asking = false;
    tick();
    const pause = failures ? Math.min(SLOWEST, EVERY * 2 ** (failures - 1)) : EVERY;
    if (!ended) timer = setTimeout(ask, Math.max(0, pause - (performance.now() - begun)));
  }
}

if (live) {
  dress();
  count();
  live.addEventListener("change", count);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    ask();
  });
  window.addEventListener("online", () => {
    clearTimeout(timer);
    ask();
  });
  timer = setTimeout(ask, EVERY);
}
tick();
setInterval(tick, 1000);

// -- acting: a time is given in the operator's own zone ----------------------------------------------------------------

const until = document.querySelector("input[name=until]");
if (until) {
  const offset = document.querySelector("[data-offset]");
  const label = document.querySelector(`label[for=${until.id}]`);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  label.textContent = label.textContent.replace("UTC", zone);
  const set = () => {
    offset.value = new Date(until.value || Date.now()).getTimezoneOffset();
  };
  set();
  until.addEventListener("input", () => {
    set();
    document.querySelector("input[name=lasts][value=time]").checked = true;
  });
}

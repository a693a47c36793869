// Keeps the dashboard live: asks each second for the changing part as the server renders it, and changes in the page
// only what is different, so that focus, selection and scroll stay. A hidden tab asks now and then, for title and icon.

const EVERY = 900; // ms: with the answer's own time, a transition shows within a second
const HIDDEN = 15000;
const DOUBT = 3000; // without a good answer, be it refused or hanging
const PATIENCE = 5000;
const SLOWEST = 15000;
const ASTRAY = 5000; // workers read at different moments, but no further apart: what is older comes of another clock

const live = document.getElementById("live");
const words = document.getElementById("lost")?.dataset; // what to say, in the page's language
let ahead = live ? Number(live.dataset.now) - Date.now() : 0; // of the shared clock over this browser's
let readAt = performance.now(); // when what is shown was read

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
  const age = document.getElementById("age");
  if (!age) return;
  // As long as all is well it stays at its value: what moves with each answer would flicker.
  const seconds = Math.ceil((performance.now() - readAt + Number(age.dataset.unsent)) / 1000);
  const text = `${Math.max(Number(age.value), seconds)} s`;
  if (age.textContent !== text) age.textContent = text;
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
  if (!["time", "data"].includes(old.localName)) patchChildren(old, fresh); // what these say is tick's
}

// White space between elements says nothing here, and would tie each card to the place of the one before.
const children = (parent) => [...parent.childNodes].filter((each) => each.nodeType === Node.ELEMENT_NODE || each.data.trim());

const alike = (one, other) => one.nodeName === other.nodeName && one.id === other.id;

function patchChildren(old, fresh) {
  const before = children(old);
  const wanted = children(fresh);
  const stays = unmoved(before, wanted);
  const known = new Map(before.filter((each) => each.id).map((each) => [each.id, each]));
  const kept = wanted.map((child) => stays.get(child) ?? (child.id && known.get(child.id)) ?? null);
  for (const each of before) if (!kept.includes(each)) each.remove();
  let next = null;
  for (let n = wanted.length - 1; n >= 0; n -= 1) {
    const place = kept[n] || wanted[n];
    if (!stays.has(wanted[n])) old.insertBefore(place, next);
    if (kept[n]) patch(place, wanted[n]);
    next = place;
  }
}

// The longest sequence that both have in common: whoever is in it need not move, and loses neither focus nor selection.
function unmoved(before, wanted) {
  const longest = Array.from({ length: before.length + 1 }, () => new Array(wanted.length + 1).fill(0));
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = wanted.length - 1; j >= 0; j -= 1) {
      longest[i][j] = alike(before[i], wanted[j])
        ? longest[i + 1][j + 1] + 1
        : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const stays = new Map();
  for (let i = 0, j = 0; i < before.length && j < wanted.length; ) {
    if (alike(before[i], wanted[j])) stays.set(wanted[j++], before[i++]);
    else if (longest[i][j + 1] >= longest[i + 1][j]) j += 1; // rather what rose moves than what it passed
    else i += 1;
  }
  return stays;
}

function show(content) {
  const board = document.getElementById("board");
  const before = shown();
  const focused = document.activeElement;
  for (const part of [...content.children]) patch(document.getElementById(part.id), part);
  if (focused !== document.activeElement && board.contains(focused)) focused.focus({ preventScroll: true });
  dress(document);
  count();
  return news(before, shown());
}

// -- what a screen reader hears, what the tab shows -------------------------------------------------------------------

function shown() {
  const cards = [...document.querySelectorAll("#board [data-state]")];
  const states = new Map(cards.map((card) => [card.dataset.name, card.dataset.state]));
  return { states, title: document.getElementById("summary").dataset.title };
}

// A calm card that comes or goes is none: filter and page may have made room for it.
function news(before, now) {
  const was = (name) => before.states.get(name) ?? "CLOSED";
  const gone = [...before.states].filter(([name, state]) => !now.states.has(name) && state !== "CLOSED");
  const told = [...now.states].filter(([name, state]) => was(name) !== state).map(([name, state]) => `${name}: ${state}`);
  told.push(...gone.map(([name]) => `${name}: ${words.gone}`));
  // The sentence is over all breakers, also those that are not among the cards.
  const more = told.length === gone.length && now.title !== before.title;
  return more ? [...told, now.title.replace(/^[▲◐] /, "")] : told;
}

function tell(told) {
  if (told.length) document.getElementById("told").textContent = told.join("; ");
}

function dress(content) {
  const { title, tone } = content.querySelector("#summary").dataset;
  const favicon = document.getElementById("favicon");
  if (document.title !== title) document.title = title;
  if (favicon.getAttribute("href") !== favicon.dataset[tone]) favicon.href = favicon.dataset[tone];
}

function count() {
  const chosen = document.querySelectorAll("#board input:checked").length;
  const number = document.getElementById("chosen");
  if (number) number.textContent = chosen ? ` (${chosen})` : "";
}

// -- asking ------------------------------------------------------------------------------------------------------------

let timer = 0;
let doubt = 0;
let asking = false;
let etag = ""; // of what is shown
let newest = 0;
let failures = 0;
let goodAt = Date.now();

function lose(text, link) {
  const banner = document.getElementById("lost");
  if (!banner.textContent.startsWith(text)) {
    banner.textContent = text;
    if (link) banner.append(" ", Object.assign(document.createElement("a"), link));
  }
  banner.hidden = false;
  live.classList.add("stale");
}

// Counted beside the asking: a gateway that hangs answers nothing, not even no.
function trust() {
  clearTimeout(doubt);
  if (!document.hidden) doubt = setTimeout(() => lose(words.lost.replace("TIME", clock.format(goodAt))), DOUBT);
}

function recover() {
  const banner = document.getElementById("lost");
  const told = banner.hidden ? [] : [words.again];
  banner.hidden = true;
  live.classList.remove("stale");
  return told;
}

function end(status) {
  clearTimeout(doubt);
  const next = encodeURIComponent(location.pathname + location.search);
  lose(status === 401 ? words.ended : words.barred, {
    textContent: words.login,
    href: `${live.dataset.login}?next=${next}`,
  });
}

async function ask() {
  if (asking) return;
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
    ended = answer.status === 401 || answer.status === 403;
    if (ended) return end(answer.status);
    if (!answer.ok && answer.status !== 304) throw new Error(answer.status);
    take(answer, answer.status === 200 ? await answer.text() : null);
  } catch {
    failures += 1;
  } finally {
    asking = false;
    tick();
    clearTimeout(timer);
    if (!ended) timer = setTimeout(ask, Math.max(0, pause() - (performance.now() - begun)));
  }
}

function pause() {
  if (document.hidden) return HIDDEN;
  return failures ? Math.min(SLOWEST, EVERY * 2 ** (failures - 1)) : EVERY;
}

// `html` null: what is shown still holds.
function take(answer, html) {
  const at = Number(answer.headers.get("X-Breaker-At"));
  const age = Number(answer.headers.get("X-Breaker-Age"));
  const content = html === null ? document : Object.assign(document.createElement("template"), { innerHTML: html }).content;
  const isOlder = at < newest && newest - at < ASTRAY; // it must not undo a newer one
  failures = 0;
  goodAt = Date.now();
  ahead = at + age - goodAt;
  if (!isOlder) newest = at;
  if (document.hidden) {
    if (!isOlder) dress(content);
    return;
  }
  trust();
  const told = recover();
  if (!isOlder) {
    readAt = performance.now() - age;
    if (html === null) dress(document);
    else {
      told.push(...show(content));
      etag = answer.headers.get("ETag");
    }
  }
  tell(told);
}

// At once where it is looked at again.
function resume() {
  clearTimeout(timer);
  trust();
  if (document.hidden) timer = setTimeout(ask, HIDDEN);
  else ask();
}

if (live) {
  dress(document);
  count();
  live.addEventListener("change", count);
  document.addEventListener("visibilitychange", resume);
  window.addEventListener("online", resume);
  trust();
  timer = setTimeout(ask, pause());
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

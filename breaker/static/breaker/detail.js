// Renews the history on one breaker's page, writes the charts' times in the reader's zone, and reads out the numbers
// under the pointer. What is said of now is kept live by breaker.js, as on the dashboard, and so is the lost connection.

const page = document.querySelector(".detail");
const every = Number(page.dataset.renew) * 1000;

// -- times -------------------------------------------------------------------------------------------------------------

const hours = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const days = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });
const both = new Intl.DateTimeFormat([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function dress() {
  for (const text of page.querySelectorAll("text[data-at]")) {
    const { since, until } = text.closest("figure").dataset;
    let at = Number(text.dataset.at);
    const byDay = until - since > 2 * 86400;
    if (byDay) at += new Date(at * 1000).getTimezoneOffset() * 60; // the reader's midnight, not UTC's
    const place = (100 * (at - since)) / (until - since);
    if (byDay) text.setAttribute("x", `${place}%`);
    text.textContent = place < 0 || place > 100 ? "" : (byDay ? days : hours).format(at * 1000);
  }
}

// -- reading out -------------------------------------------------------------------------------------------------------

const unit = { errorRate: " %", p50: " ms", p95: " ms", p99: " ms" };

function point(event) {
  const plot = event.target.closest?.(".plot");
  if (!plot) return leave();
  const { since, until, step } = plot.closest("figure").dataset;
  const area = plot.querySelector(".area").getBoundingClientRect();
  const part = Math.min(1, Math.max(0, (event.clientX - area.left) / area.width));
  const at = Number(since) + Math.floor((part * (until - since)) / step) * step;
  const iso = new Date(at * 1000).toISOString();
  const row = [...page.querySelectorAll("#d-table time")].find((time) => time.dateTime === iso)?.closest("tr");
  for (const figure of page.querySelectorAll("figure[data-step]")) {
    const cursor = figure.querySelector(".cursor");
    const x = (1000 * (at + step / 2 - since)) / (until - since);
    cursor.setAttribute("d", `M${Math.min(1000, x)} 0v100`);
    cursor.setAttribute("visibility", "visible");
    const when = figure.querySelector(".when");
    when.dataset.whole ??= when.textContent;
    when.textContent = `${both.format(at * 1000)}:`;
    for (const value of figure.querySelectorAll("[data-of]")) {
      value.dataset.whole ??= value.textContent;
      const told = row?.querySelector(`[data-k=${value.dataset.of}]`)?.textContent ?? (value.dataset.of in unit ? "-" : "0");
      value.textContent = told === "-" ? told : told + (unit[value.dataset.of] ?? "");
    }
  }
}

function leave() {
  for (const cursor of page.querySelectorAll(".cursor")) cursor.setAttribute("visibility", "hidden");
  for (const value of page.querySelectorAll("[data-whole]")) value.textContent = value.dataset.whole;
}

page.addEventListener("pointermove", point);
page.addEventListener("pointerleave", leave);

// -- renewing ----------------------------------------------------------------------------------------------------------

let timer = 0;
const seen = new Map();

async function renew() {
  clearTimeout(timer);
  if (document.hidden) return; // until it is looked at
  try {
    const answer = await fetch(location.href, { redirect: "error", signal: AbortSignal.timeout(8000) });
    if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The history stays as it is; breaker.js, which asks more often, says that the connection is lost.
  }
  timer = setTimeout(renew, every);
}

function show(fresh) {
  for (const part of page.querySelectorAll("[data-part]")) {
    const now = fresh.getElementById(part.id);
    if (!now || seen.get(part.id) === now.innerHTML) continue;
    if (part.contains(document.activeElement) || part.matches(":hover")) continue; // not under the reader's hand
    seen.set(part.id, now.innerHTML);
    const open = [...part.querySelectorAll("details[open]")].map((each) => each.id);
    const scrolled = part.scrollTop;
    part.replaceChildren(...now.childNodes);
    part.scrollTop = scrolled;
    for (const id of open) document.getElementById(id).open = true;
  }
  dress();
}

dress();
if (every) {
  timer = setTimeout(renew, every);
  document.addEventListener("visibilitychange", renew);
}

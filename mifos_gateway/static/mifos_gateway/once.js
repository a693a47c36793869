// A form that makes a token is sent once: the answer to a second click, which is refused, would take the place of the
// first one's, which shows the token.

for (const form of document.querySelectorAll("#content-main form")) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  addEventListener("pageshow", () => { sent = false; }); // who comes back may send it again
}

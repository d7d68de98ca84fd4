// The composer: after each message an empty field and a new event key, so that the next one is another event.

document.addEventListener("htmx:before:request", (event) => {
  const form = event.target.closest("[data-say]");
  if (!form) return;
  form.elements.event_key.value = newKey();
  form.elements.text.value = "";
  form.elements.text.focus();
});

function newKey() {
  // crypto.randomUUID is only there on https.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

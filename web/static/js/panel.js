// Small things that pages ask for with data-* attributes. Everything works without them, only less well.

const SAID_MS = 2000;
const COPIED = "Copiado";
const NOT_COPIED = "Não deu para copiar";

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) copyText(copy.dataset.copy).then((done) => say(copy, done ? COPIED : NOT_COPIED));
  const peek = event.target.closest("[data-peek]");
  if (peek) togglePassword(peek);
});

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByHand(text); // no clipboard outside https
  }
}

function copyByHand(text) {
  const area = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function say(button, text) {
  const label = button.querySelector("[data-said]");
  if (!label || [COPIED, NOT_COPIED].includes(label.textContent)) return;
  const before = label.textContent;
  label.textContent = text;
  setTimeout(() => {
    if (label.textContent === text) label.textContent = before; // else the page was drawn again meanwhile
  }, SAID_MS);
}

function togglePassword(button) {
  const field = document.getElementById(button.dataset.peek);
  const shown = field.type === "password";
  field.type = shown ? "text" : "password";
  button.setAttribute("aria-pressed", String(shown));
}

// A page that nobody looks at asks for nothing.
document.addEventListener("htmx:config:request", (event) => {
  if (document.hidden && event.target.closest("[data-poll]") === event.target) event.preventDefault();
});

// Small things that pages ask for with data-* attributes. Everything works without them, only less well.

const SAID_MS = 2000;

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) copyText(copy.dataset.copy).then((done) => say(copy, done ? "Copiado" : "Não deu para copiar"));
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
  if (!label || button.dataset.before) return;
  button.dataset.before = label.textContent;
  label.textContent = text;
  setTimeout(() => {
    label.textContent = button.dataset.before;
    delete button.dataset.before;
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

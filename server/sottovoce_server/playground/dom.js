// Elements from text: the only way by which anything reaches the page, and never as markup.

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function show(target, text) {
  target.textContent = text;
  target.hidden = !text;
}

// A token as it can be seen: line ends have a sign, and a token without text has its number. A latent
// step has no token, but the text that it was read as, where the model has a decoder for that.
export function visible({ token, token_id: id, route, step }) {
  const text = route === "latent" ? step?.trim() || "(vector)" : token;
  return text === "" ? `[${id}]` : text.replaceAll("\n", "⏎\n");
}

// The same on one line, where spaces at its ends count.
export function quoted(step) {
  return `“${visible(step).replaceAll("\n", "")}”`;
}

// One run: its thinking step by step, the timeline, the answer and the totals.

import { element, quoted, show, visible } from "./dom.js";
import { Timeline } from "./timeline.js";

const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
const SIGNS = { soft: "●", discrete: "■", forced: "▲", latent: "◆" };
const HINT = "Point at a step, or move along them with the arrow keys.";
let numMade = 0;

const count = (steps, route) => steps.filter((step) => step.route === route).length;

// Between soft and discrete, as the server counts them.
function switches(steps) {
  const kinds = steps.map((step) => step.route);
  const isChosen = (kind) => kind === "soft" || kind === "discrete";
  return kinds.filter((kind, i) => i > 0 && kind !== kinds[i - 1] && isChosen(kind) && isChosen(kinds[i - 1]))
    .length;
}

export class Column {
  #parts = {};
  #steps = [];
  #selected = -1;
  #timeline;
  #usage = null;
  #finish = "";
  #started = performance.now();
  #seconds = null;
  #frame = 0;

  constructor(template, mode, threshold) {
    const article = template.content.firstElementChild.cloneNode(true);
    for (const name of ["effective", "status", "error", "totals", "thinking", "details", "answer", "timeline"]) {
      this.#parts[name] = article.querySelector(`.${name}`);
    }
    this.article = article;
    const title = article.querySelector("h2");
    title.textContent = mode;
    article.dataset.mode = mode;
    title.id = `run-${(numMade += 1)}`;
    article.setAttribute("aria-labelledby", title.id);
    this.#timeline = new Timeline(this.#parts.timeline, (index) => this.select(index));
    this.#timeline.threshold = threshold;
    this.#listen(mode);
    this.#say("waiting");
    this.#parts.details.textContent = HINT;
    this.#draw();
  }

  #listen(mode) {
    const { thinking, details } = this.#parts;
    details.id = `details-${numMade}`;
    thinking.setAttribute("aria-label", `Thinking steps, ${mode}`);
    const indexOf = (event) => Number(event.target.dataset?.index ?? -1);
    thinking.addEventListener("pointerover", (event) => this.select(indexOf(event)));
    thinking.addEventListener("focusin", (event) => this.select(indexOf(event)));
    thinking.addEventListener("keydown", (event) => this.#move(event));
  }

  begin() {
    this.#started = performance.now();
    this.article.setAttribute("aria-busy", "true");
    this.#say("running");
  }

  // One chunk of the stream.
  take(chunk) {
    for (const choice of chunk.choices ?? []) {
      for (const step of choice.routing?.trace ?? []) this.#add(step);
      this.#write(choice.delta ?? {});
      this.#finish = choice.finish_reason ?? this.#finish;
    }
    if (chunk.usage) this.#usage = chunk.usage;
    if (chunk.routing) this.#showEffective(chunk.routing);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  end() {
    this.#close(`done: ${this.#finish || "no reason given"}`);
  }

  stop() {
    this.#close("stopped");
  }

  fail(error) {
    this.#close("failed");
    show(this.#parts.error, error.message);
  }

  #close(status) {
    this.#seconds = (performance.now() - this.#started) / 1000;
    this.article.removeAttribute("aria-busy");
    this.#say(status);
    this.#draw();
  }

  #say(status) {
    this.#parts.status.textContent = status;
  }

  #add(step) {
    const { thinking } = this.#parts;
    const follows = thinking.scrollTop + thinking.clientHeight >= thinking.scrollHeight - 8;
    if (!this.#steps.length) thinking.textContent = "";
    const index = this.#steps.push(step) - 1;
    const token = element("span", `token ${step.route}`, visible(step));
    token.setAttribute("role", "option");
    token.setAttribute("aria-label", `${quoted(step)}, ${step.route}, p_max ${step.p_max.toFixed(2)}`);
    token.setAttribute("aria-describedby", this.#parts.details.id);
    token.setAttribute("aria-selected", "false");
    token.dataset.index = index;
    token.tabIndex = index === 0 ? 0 : -1;
    thinking.append(token);
    if (follows) thinking.scrollTop = thinking.scrollHeight;
  }

  #write(delta) {
    if (delta.content) this.#parts.answer.append(delta.content);
    // Thinking without a record: the engine had no room for one, and ran without routing.
    if (delta.reasoning && !this.#steps.length) this.#parts.thinking.append(delta.reasoning);
  }

  #showEffective({ mode, policy, threshold }) {
    const limit = threshold === null ? "" : `threshold ${threshold}`;
    this.#parts.effective.textContent = ["ran as " + mode, policy, limit].filter(Boolean).join(" · ");
    this.#timeline.threshold = threshold;
  }

  #draw() {
    this.#frame = 0;
    this.#timeline.draw(this.#steps, this.#selected);
    const details = this.#usage?.completion_tokens_details ?? {};
    const [soft, all] = [details.soft_steps ?? count(this.#steps, "soft"), this.#steps.length];
    const seconds = this.#seconds ?? (performance.now() - this.#started) / 1000;
    this.#showTotals({
      // Latent ones too, which are no reasoning tokens. Thinking without a record has the usage only.
      "reasoning steps": all || (details.reasoning_tokens ?? 0),
      "soft share": all ? `${Math.round((100 * soft) / all)} %` : "–",
      switches: details.switches ?? switches(this.#steps),
      seconds: seconds.toFixed(1),
      tokens: this.#usage?.completion_tokens ?? "–",
    });
  }

  #showTotals(totals) {
    const pairs = Object.entries(totals).map(([name, value]) => {
      const pair = element("div");
      pair.append(element("dt", "", name), element("dd", "", String(value)));
      return pair;
    });
    this.#parts.totals.replaceChildren(...pairs);
  }

  #move(event) {
    const last = this.#steps.length - 1;
    const ends = { Home: 0, End: last };
    const target = ends[event.key] ?? this.#selected + (MOVES[event.key] ?? NaN);
    if (Number.isNaN(target) || last < 0) return;
    event.preventDefault();
    this.#parts.thinking.children[Math.min(Math.max(target, 0), last)].focus();
  }

  select(index) {
    if (!this.#steps[index] || index === this.#selected) return;
    const { children } = this.#parts.thinking;
    const before = children[Math.max(this.#selected, 0)];
    [before.tabIndex, children[index].tabIndex] = [-1, 0];
    before.setAttribute("aria-selected", "false");
    children[index].setAttribute("aria-selected", "true");
    this.#selected = index;
    this.#showDetails(this.#steps[index], index);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #showDetails(step, index) {
    const { p_max: confidence, entropy, route, alternatives } = step;
    const numbers = `p_max ${confidence.toFixed(3)}, entropy ${entropy.toFixed(3)} nats`;
    const head = element("p", "", `${index + 1}. ${quoted(step)} ${SIGNS[route]} ${route}: ${numbers}`);
    const list = element("ol");
    for (const other of alternatives) {
      const [item, bar] = [element("li"), element("meter")];
      bar.value = other.weight;
      bar.setAttribute("aria-hidden", "true");
      item.append(bar, ` ${other.weight.toFixed(3)} ${quoted(other)}`);
      list.append(item);
    }
    this.#parts.details.replaceChildren(head, list);
  }
}

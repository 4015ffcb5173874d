// The form: what it offers, what it asks the server for, and its state in a link.

import { element } from "./dom.js";

const SAMPLING = ["temperature", "seed", "max_tokens", "thinking_token_budget"];

export class Fields {
  #form;
  #catalogue = { modes: {}, defaults: {} };
  #wanted = {}; // by select, what a link asked for before the server had named its options

  constructor(form) {
    this.#form = form;
  }

  get modes() {
    return new FormData(this.#form).getAll("mode");
  }

  get isInTurn() {
    return this.#form.elements.in_turn.checked;
  }

  setCatalogue(catalogue) {
    this.#catalogue = catalogue;
    for (const [mode, { default: name, policies }] of Object.entries(catalogue.modes)) {
      const options = Object.keys(policies).map((policy) => [policy, policy]);
      this.#fill(`${mode}_policy`, [["", `${name} (default)`], ...options]);
    }
    this.setPlaceholders({});
  }

  setModels(cards) {
    this.#fill("model", cards.map((card) => [card.id, card.id]));
    this.#form.elements.model.onchange = () => this.#showModel(cards);
    this.#showModel(cards);
  }

  setPlaceholders(routing) {
    const defaults = { ...this.#catalogue.defaults, ...routing };
    for (const name of ["threshold", "top_n"]) {
      this.#form.elements[name].placeholder = defaults[name] ?? "";
    }
    this.#form.elements.temperature.placeholder = "model's own";
    this.#form.elements.max_tokens.placeholder = "as many as fit";
    this.#form.elements.seed.placeholder = "none";
  }

  #showModel(cards) {
    const card = cards.find(({ id }) => id === this.#form.elements.model.value);
    const served = card?.reasoning_modes ?? [];
    for (const box of this.#form.querySelectorAll("[name=mode]")) {
      box.disabled = !served.includes(box.value);
      box.parentElement.title = box.disabled ? "This model does not serve it." : "";
    }
    this.setPlaceholders(card?.routing_defaults ?? {});
  }

  #fill(name, options) {
    const select = this.#form.elements[name];
    const value = this.#wanted[name] ?? select.value;
    select.replaceChildren(
      ...options.map(([id, text]) => Object.assign(element("option", "", text), { value: id })),
    );
    if (options.some(([id]) => id === value)) {
      select.value = value;
      delete this.#wanted[name];
    }
  }

  policyOf(mode) {
    const chosen = this.#form.elements[`${mode}_policy`]?.value;
    return chosen || this.#catalogue.modes[mode]?.default;
  }

  reads(mode, field) {
    const policies = this.#catalogue.modes[mode]?.policies ?? {};
    return policies[this.policyOf(mode)]?.includes(field) ?? false;
  }

  // The threshold that a mode will run with, as far as can be told before the server says it.
  thresholdOf(mode) {
    const { value, placeholder } = this.#form.elements.threshold;
    return this.reads(mode, "threshold") ? Number(value || placeholder) : null;
  }

  request(mode) {
    const state = Object.fromEntries(new FormData(this.#form));
    const body = {
      model: state.model,
      messages: [{ role: "user", content: state.prompt }],
      reasoning_mode: mode,
      include_reasoning_trace: true,
      stream: true,
      stream_options: { include_usage: true },
    };
    for (const name of SAMPLING) if (state[name]) body[name] = Number(state[name]);
    const routing = mode === "explicit" ? {} : this.#routing(state, mode);
    // A model's own latent steps take none.
    if (Object.keys(routing).length) body.routing = routing;
    return body;
  }

  #routing(state, mode) {
    const routing = {};
    const policy = state[`${mode}_policy`];
    if (policy) routing.policy = policy;
    if (state.threshold && this.reads(mode, "threshold")) routing.threshold = Number(state.threshold);
    if (state.top_n) routing.top_n = Number(state.top_n);
    return routing;
  }

  // What a link carries: the named fields. The key has no name, and is in none.
  fragment() {
    const filled = [...new FormData(this.#form)].filter(([, value]) => value !== "");
    return new URLSearchParams(filled).toString();
  }

  restore(fragment) {
    if (!fragment) return;
    const params = new URLSearchParams(fragment);
    for (const field of this.#form.elements) {
      if (!field.name) continue;
      if (field.type === "checkbox") {
        field.checked = params.getAll(field.name).includes(field.value);
      } else {
        const value = params.get(field.name) ?? "";
        field.value = value;
        if (field.value !== value) this.#wanted[field.name] = value;
      }
    }
  }
}

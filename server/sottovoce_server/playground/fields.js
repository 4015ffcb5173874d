// The form: what it offers, what it asks the server for, and its state in a link.

import { element } from "./dom.js";

const SAMPLING = ["temperature", "seed", "max_tokens", "thinking_token_budget"];

export class Fields {
  #form;
  #catalogue = { modes: {}, defaults: {} };
  #card = {}; // of the chosen model
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
    this.#fillPolicies();
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
    this.#card = cards.find(({ id }) => id === this.#form.elements.model.value) ?? {};
    const served = this.#card.reasoning_modes ?? [];
    for (const box of this.#form.querySelectorAll("[name=mode]")) {
      box.disabled = !served.includes(box.value);
      box.parentElement.title = box.disabled ? "This model does not serve it." : "";
    }
    const { latent, shortcuts } = this.#card;
    this.#form.elements.steps.parentElement.hidden = !latent && !shortcuts;
    this.#form.elements.depth.parentElement.hidden = !shortcuts;
    this.#fillPolicies();
    this.setPlaceholders(this.#card.routing_defaults ?? {});
  }

  // The catalogue's, and in latent what the model was trained for: its method, or shortcuts.
  #fillPolicies() {
    for (const [mode, { default: name, policies }] of Object.entries(this.#catalogue.modes)) {
      const trained = mode === "latent" ? this.#card : {};
      const names = [...Object.keys(policies), ...(trained.shortcuts ? ["shortcuts"] : [])];
      const options = names.map((policy) => [policy, policy]);
      const first = trained.latent?.method ?? name;
      this.#fill(`${mode}_policy`, [["", `${first} (default)`], ...options]);
    }
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
    const own = mode === "latent" ? this.#card.latent?.method : undefined;
    return chosen || own || this.#catalogue.modes[mode]?.default;
  }

  // The request's key for steps that the model was trained for; null where a policy is asked for.
  #trainedKey(mode) {
    const policy = this.policyOf(mode);
    if (policy === "shortcuts") return policy;
    return mode === "latent" && policy === this.#card.latent?.method ? "latent" : null;
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
    const trained = this.#trainedKey(mode);
    if (trained) body[trained] = this.#trained(state, trained);
    else if (mode !== "explicit") body.routing = this.#routing(state, mode);
    return body;
  }

  #trained(state, key) {
    const names = ["steps", ...(key === "shortcuts" ? ["depth"] : [])];
    return Object.fromEntries(names.filter((name) => state[name]).map((name) => [name, Number(state[name])]));
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

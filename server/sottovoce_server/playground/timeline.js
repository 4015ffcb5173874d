// p_max of every thinking step: a line, a shape for each route, and the threshold.

const HEIGHT = 110;
const LEFT = 14;
const EDGE = 8;

const SHAPES = {
  soft: (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  discrete: (x, y, r) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
  forced: (x, y, r) => `M${x} ${y - r}l${r} ${2 * r}h${-2 * r}z`,
  latent: (x, y, r) => `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`,
};

export class Timeline {
  #svg;
  #steps = [];
  #selected = -1;
  threshold = null;

  constructor(svg, onPoint) {
    this.#svg = svg;
    svg.addEventListener("pointermove", (event) => {
      const index = this.#indexAt(event.clientX - svg.getBoundingClientRect().left);
      if (index >= 0) onPoint(index);
    });
    new ResizeObserver(() => this.draw(this.#steps, this.#selected)).observe(svg);
  }

  get #width() {
    return Math.max(this.#svg.clientWidth, 60);
  }

  get #gap() {
    return (this.#width - LEFT - 2 * EDGE) / Math.max(this.#steps.length - 1, 1);
  }

  #x(index) {
    return Math.round((LEFT + EDGE + index * this.#gap) * 10) / 10;
  }

  #y(value) {
    return Math.round((EDGE + (1 - value) * (HEIGHT - 2 * EDGE)) * 10) / 10;
  }

  #indexAt(x) {
    const index = Math.round((x - LEFT - EDGE) / this.#gap);
    return Math.min(Math.max(index, 0), this.#steps.length - 1);
  }

  draw(steps, selected) {
    this.#steps = steps;
    this.#selected = selected;
    const [right, points] = [this.#width, steps.map((step, i) => `${this.#x(i)} ${this.#y(step.p_max)}`)];
    this.#path("axis", `M${LEFT} ${this.#y(1)}V${this.#y(0)}H${right}`);
    this.#path("line", points.length ? `M${points.join("L")}` : "");
    const radius = Math.min(Math.max(this.#gap / 2, 1.5), 3.5);
    for (const [route, shape] of Object.entries(SHAPES)) this.#path(route, this.#marks(route, shape, radius));
    this.#path("cursor", selected < 0 ? "" : `M${this.#x(selected)} ${this.#y(1)}V${this.#y(0)}`);
    this.#drawThreshold(right);
    this.#text("one", 2, this.#y(1) + 4);
    this.#text("zero", 2, this.#y(0) + 4);
    this.#svg.setAttribute("aria-label", this.#label());
  }

  #marks(route, shape, radius) {
    return this.#steps
      .map((step, i) => (step.route === route ? shape(this.#x(i), this.#y(step.p_max), radius) : ""))
      .join("");
  }

  #drawThreshold(right) {
    const { threshold } = this;
    const y = threshold === null ? 0 : this.#y(Math.min(Math.max(threshold, 0), 1));
    this.#path("threshold", threshold === null ? "" : `M${LEFT} ${y}H${right}`);
    const label = this.#text("threshold-label", LEFT + 4, y > HEIGHT / 2 ? y - 4 : y + 13);
    label.textContent = threshold === null ? "" : `threshold ${threshold}`;
  }

  #path(name, d) {
    this.#svg.querySelector(`.${name}`).setAttribute("d", d);
  }

  #text(name, x, y) {
    const text = this.#svg.querySelector(`.${name}`);
    text.setAttribute("x", x);
    text.setAttribute("y", y);
    return text;
  }

  #label() {
    const values = this.#steps.map((step) => step.p_max);
    if (!values.length) return "p_max: no thinking step yet";
    const low = values.reduce((best, value, i) => (value < values[best] ? i : best), 0);
    const limit = this.threshold === null ? "" : `, threshold ${this.threshold}`;
    return `p_max of ${values.length} steps, lowest ${values[low].toFixed(2)} at step ${low + 1}${limit}`;
  }
}

// Token strips and the histogram they point into. Every foreign text is set as textContent; nothing is ever parsed as HTML.
const LIMIT_WORDS = 3;

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(1) : Number(value.toPrecision(LIMIT_WORDS)).toString();
  return text.replace("-", "−");
}

function glyphs(text, breaks) {
  if (!breaks) return text.replace(/\s*\n\s*/g, " ↵ ").replace(/\t/g, " ");
  return text.replace(/\n/g, "↵\n").replace(/\t/g, "⇥\t");
}

function shade(value, scale) {
  const share = scale > 0 ? Math.min(1, Math.abs(value) / scale) : 0;
  const tone = value < 0 ? "var(--below)" : "var(--above)";
  return `color-mix(in srgb, ${tone} ${Math.round(100 * share)}%, transparent)`;
}

function drawHistogram(spec, tip) {
  const box = make("div", "histogram");
  const plot = make("div", "plot");
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", spec.sentence);
  const span = spec.high - spec.low;
  const top = Math.log10(spec.most) + 0.15;
  const place = (value) => Math.min(100, Math.max(0, (100 * (value - spec.low)) / span));
  for (const [count, words] of spec.counts) {
    const at = (100 * (Math.log10(count) + 0.3)) / (top + 0.3);
    const line = make("div", "grid");
    line.style.bottom = `${at}%`;
    line.append(make("span", "", words));
    plot.append(line);
  }
  for (const [low, high, count, zero] of spec.bars) {
    const bar = make("div", zero ? "bar zero" : "bar");
    bar.style.left = `${place(low)}%`;
    bar.style.width = `max(1px, calc(${place(high) - place(low)}% - 1px))`;
    bar.style.height = `${(100 * (Math.log10(count) + 0.3)) / (top + 0.3)}%`;
    tip.on(bar, () => [`${number(low)} to ${number(high)}`, `${count.toLocaleString("en")} tokens${zero ? ", zero among them" : ""}`]);
    plot.append(bar);
  }
  for (const value of spec.lines) {
    const line = make("div", "threshold");
    line.style.left = `${place(value)}%`;
    plot.append(line);
  }
  const mark = make("div", "mark");
  const said = make("span", "");
  mark.append(said);
  plot.append(mark);
  const axis = make("div", "axis");
  for (const value of spec.ticks) {
    const tick = make("span", "", number(value));
    tick.style.left = `${place(value)}%`;
    axis.append(tick);
  }
  box.append(make("div", "upright", "tokens (log scale)"), plot, axis, make("div", "title", spec.label));
  const show = (value) => {
    mark.classList.toggle("on", value !== null);
    if (value === null) return;
    mark.style.left = `${place(value)}%`;
    mark.classList.toggle("left", place(value) > 70);
    said.textContent = number(value);
  };
  return { box, show };
}

function makeTip(root) {
  const box = make("div", "tip");
  box.setAttribute("aria-hidden", "true");
  root.append(box);
  const hide = () => box.classList.remove("on");
  const show = (node, lines) => {
    box.replaceChildren(...lines.map((line, i) => make("div", i ? "small" : "", line)));
    box.classList.add("on");
    const frame = root.getBoundingClientRect();
    const at = node.getBoundingClientRect();
    const left = Math.min(Math.max(0, at.left - frame.left), Math.max(0, frame.width - box.offsetWidth - 4));
    const above = at.top - frame.top - box.offsetHeight - 6;
    box.style.left = `${left}px`;
    box.style.top = `${above < 0 ? at.bottom - frame.top + 6 : above}px`;
  };
  const on = (node, lines) => {
    node.addEventListener("pointerenter", () => show(node, lines()));
    node.addEventListener("pointerleave", hide);
  };
  return { on, show, hide };
}

function drawStrip(example, spec, tip, show) {
  const strip = make("div", spec.breaks ? "strip breaks" : "strip");
  strip.setAttribute("role", "listbox");
  strip.setAttribute("aria-orientation", "horizontal");
  strip.setAttribute("aria-label", `${example.words}; arrow keys move along the tokens`);
  const tokens = [];
  if (example.cut_before) strip.append(make("span", "cut", "…"));
  example.tokens.forEach((text, i) => {
    const share = example.values[i];
    const value = share === null ? null : share * example.unit;
    const inner = spec.pieces && text.startsWith("##");
    const token = make("span", "token", inner ? text.slice(2) : glyphs(text, spec.breaks));
    if (spec.pieces && !inner && i) strip.append(" "); // word pieces carry no spaces of their own
    const exact = i === example.peak;
    const words = value === null ? "not stored here" : exact ? number(example.value) : `${example.rough ? "about " : ""}${number(value)}`;
    token.setAttribute("role", "option");
    token.setAttribute("aria-selected", exact ? "true" : "false");
    token.setAttribute("aria-label", `${JSON.stringify(text)}: ${words}`);
    token.tabIndex = exact ? 0 : -1;
    if (value !== null) token.style.backgroundColor = shade(exact ? example.value : value, spec.scale);
    if (exact) token.classList.add("peak");
    if (value === null) token.classList.add("outside");
    const enter = () => {
      tip.show(token, [`${JSON.stringify(text)}  ${words}`, exact ? "the peak of this example" : `token ${example.first + i} of the window`]);
      show(exact ? example.value : value);
    };
    const leave = () => {
      tip.hide();
      show(null);
    };
    token.addEventListener("pointerenter", enter);
    token.addEventListener("pointerleave", leave);
    token.addEventListener("focus", enter);
    token.addEventListener("blur", leave);
    tokens.push(token);
    strip.append(token);
  });
  if (example.cut_after) strip.append(make("span", "cut", "…"));
  strip.addEventListener("keydown", (event) => {
    const at = tokens.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.stopPropagation(); // inside a strip the arrows move along its tokens, not to the next neuron
    event.preventDefault();
    tokens[Math.min(tokens.length - 1, Math.max(0, to))].focus();
  });
  return strip;
}

function drawLegend(spec) {
  const legend = make("div", "legend");
  if (spec.lowest < 0) legend.append(make("span", "", number(-spec.scale)), make("span", "ramp below"));
  legend.append(make("span", "", "0"), make("span", "ramp above"), make("span", "", number(spec.scale)));
  legend.append(make("span", "ring", "peak"));
  return legend;
}

function drawGroup(group, spec, tip, show) {
  const box = make("section", "group");
  const heading = make("h3", "", group.title);
  box.append(heading, make("p", "about", group.about));
  for (const example of group.examples) {
    const row = make("div", "example");
    const side = make("div", "side");
    side.append(make("span", "value", number(example.value)), make("span", "where", example.where));
    side.title = example.where;
    row.append(side, drawStrip(example, spec, tip, show));
    box.append(row);
  }
  return box;
}

export default function (component) {
  const { data, parentElement } = component;
  const root = parentElement.querySelector(".root");
  root.replaceChildren();
  const tip = makeTip(root);
  const body = make("div", data.histogram ? "body" : "body single");
  let show = () => {};
  if (data.histogram) {
    const made = drawHistogram(data.histogram, tip);
    show = (value) => made.show(value);
    const aside = make("div", "aside");
    aside.append(make("h3", "", data.histogram.title), made.box);
    for (const words of data.histogram.notes) aside.append(make("p", "about", words));
    body.append(aside);
  }
  const list = make("div", "list");
  if (data.groups.length) list.append(drawLegend(data));
  for (const group of data.groups) list.append(drawGroup(group, data, tip, show));
  body.append(list);
  root.append(body);
}

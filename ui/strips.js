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

function percent(share) {
  return `${(100 * share).toPrecision(share < 0.0995 ? 2 : 3).replace(/\.0+$/, "")} %`;
}

// Where each token looks and who looks at it, in two colours that grow with the square root of the share; a click holds a token.
function drawLooks(example, tokens, targets, tip) {
  const incoming = targets.map(() => []);
  const outgoing = example.looks.map((looks) => looks || []);
  outgoing.forEach((looks, i) => looks.forEach(([to, share]) => incoming[to].push([i, share])));
  incoming.forEach((looks) => looks.sort((one, other) => other[1] - one[1]));
  const every = targets === tokens ? tokens : [...tokens, ...targets];
  const before = every.map((token) => token.style.background);
  let held = null;
  const tint = (tone, share) => `color-mix(in srgb, var(${tone}) ${Math.round(100 * Math.sqrt(share))}%, transparent)`;
  const clear = () => every.forEach((token, i) => (token.style.background = before[i]));
  const paint = (i, isTarget) => {
    every.forEach((token) => (token.style.background = ""));
    const out = new Map(isTarget ? [] : outgoing[i]);
    const into = new Map(isTarget || targets === tokens ? incoming[i] : []);
    for (const [to, share] of out) {
      const both = targets === tokens && into.has(to);
      const tone = tint("--above", share);
      targets[to].style.background = both ? `linear-gradient(${tone} 0 50%, ${tint("--below", into.get(to))} 50% 100%)` : tone;
    }
    for (const [from, share] of into) if (targets !== tokens || !out.has(from)) tokens[from].style.background = tint("--below", share);
  };
  const named = (looks, texts) => looks.slice(0, 4).map(([at, share]) => `${JSON.stringify(texts[at])} ${percent(share)}`).join(", ");
  const texts = example.looked_at.length ? example.looked_at : example.tokens;
  const words = (i, isTarget) => {
    const lines = [`${JSON.stringify((isTarget ? texts : example.tokens)[i])}  token ${(isTarget ? 0 : example.first) + i}`];
    const known = !isTarget && example.looks[i] !== null;
    if (known) lines.push(`looks at ${named(outgoing[i], texts)}; kept: ${percent(outgoing[i].reduce((sum, one) => sum + one[1], 0))}`);
    if (!isTarget && !known) lines.push("where it looks was not kept");
    if (isTarget || targets === tokens) lines.push(incoming[i].length ? `is looked at by ${named(incoming[i], example.tokens)}` : "is among the kept keys of no token");
    if (held && held.i !== i && !held.isTarget && !isTarget && targets === tokens) {
      const share = (from, to) => (outgoing[from].find(([at]) => at === to) || [0, 0])[1];
      lines.push(`of the held token: gets ${percent(share(held.i, i))}, gives ${percent(share(i, held.i))}`);
    }
    return lines;
  };
  const hold = (node, i, isTarget) => {
    const same = held && held.node === node;
    if (held) held.node.classList.remove("held");
    if (held) held.node.setAttribute("aria-selected", "false");
    held = same ? null : { node, i, isTarget };
    if (held) node.classList.add("held");
    if (held) node.setAttribute("aria-selected", "true");
    paint(i, isTarget);
  };
  const watch = (nodes, isTarget) =>
    nodes.forEach((node, i) => {
      const enter = () => {
        tip.show(node, words(i, isTarget));
        if (!held) paint(i, isTarget);
      };
      const leave = () => {
        tip.hide();
        if (!held) clear();
      };
      node.addEventListener("pointerenter", enter);
      node.addEventListener("pointerleave", leave);
      node.addEventListener("focus", enter);
      node.addEventListener("blur", leave);
      node.addEventListener("click", () => hold(node, i, isTarget));
      node.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") hold(node, i, isTarget);
        else if (event.key === "Escape" && held) hold(held.node, held.i, held.isTarget);
        else return;
        event.preventDefault();
        event.stopPropagation();
      });
    });
  watch(tokens, false);
  if (targets !== tokens) watch(targets, true);
}

function drawStrip(example, spec, tip, show) {
  const box = make("div", "");
  const tokens = drawTokens(example, spec, tip, show, box);
  if (example.looks) {
    const other = { ...example, tokens: example.looked_at, values: example.looked_at.map(() => 0), peak: 0, cut_before: false, cut_after: false };
    if (example.looked_at.length) box.append(make("div", "between", "looks at:"));
    drawLooks(example, tokens, example.looked_at.length ? drawTokens(other, spec, tip, show, box) : tokens, tip);
  }
  return box;
}

function drawTokens(example, spec, tip, show, box) {
  const strip = make("div", spec.breaks ? "strip breaks" : "strip");
  box.append(strip);
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
    if (value !== null) token.style.background = shade(exact && !example.looks ? example.value : value, spec.scale);
    if (exact && !example.looks) token.classList.add("peak");
    if (value === null) token.classList.add("outside");
    tokens.push(token);
    strip.append(token);
    if (example.looks) {
      token.setAttribute("aria-selected", "false");
      token.setAttribute("aria-label", `${JSON.stringify(text)}: gets ${percent(value || 0)} of the attention; Enter holds it`);
      return;
    }
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
  return tokens;
}

function drawLegend(spec) {
  const legend = make("div", "legend");
  if (spec.looks) {
    legend.append(make("span", "ramp above"), make("span", "", "where the token you point at looks"));
    legend.append(make("span", "ramp below"), make("span", "", "who looks at it"));
    return legend;
  }
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
    if (example.looks) {
      box.append(drawStrip(example, spec, tip, show)); // where it is from stands above, where it is chosen
      continue;
    }
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

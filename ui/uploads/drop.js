// The drop zone: one file, sent in chunks. What the server or a file's name says is set as textContent and never parsed.
const SMALLEST = 256 * 1024, FIRST = 1024 * 1024, LARGEST = 32 * 1024 * 1024;
const QUICK_MS = 700, SLOW_MS = 4000, TRIES = 7;
const ONE_FILE = "Drop one file. A model folder must be packed into a zip first.";

function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function size(bytes) {
  for (const [unit, one] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= one) return `${(bytes / one).toPrecision(3)} ${unit}`;
  }
  return `${bytes} bytes`;
}

function span(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const later = (ms, signal) =>
  new Promise((done, stop) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), stop(signal.reason)));
  });

// A refusal is the server's last word; everything else (no network, a proxy's page) may pass.
class Refusal extends Error {}

async function ask(sending, path, options = {}) {
  const answer = await fetch(sending.route + path, { signal: sending.stop.signal, ...options });
  const found = await answer.json().catch(() => ({}));
  if (answer.ok) return found;
  if (found.refusal && answer.status !== 409) throw new Refusal(found.refusal);
  const error = new Error(`the server answered ${answer.status}`);
  error.status = answer.status;
  throw error;
}

async function sendChunk(sending) {
  const chunk = sending.file.slice(sending.sent, sending.sent + sending.step);
  const began = performance.now();
  try {
    const found = await ask(sending, `/${sending.id}?offset=${sending.sent}`, { method: "PUT", body: chunk });
    sending.sent = found.received;
  } catch (error) {
    if (error.status === 413 && sending.step > SMALLEST) {
      sending.most = sending.step = Math.max(SMALLEST, sending.step / 4); // a proxy takes no more at once
      return;
    }
    throw error;
  }
  const took = performance.now() - began;
  if (took < QUICK_MS) sending.step = Math.min(sending.step * 2, sending.most);
  else if (took > SLOW_MS) sending.step = Math.max(SMALLEST, sending.step / 2);
}

// Do it again where the network fails, more patiently each time; after a break the server says where to go on.
async function patiently(sending, act, say) {
  for (let tried = 0; ; tried++) {
    try {
      if (tried && sending.id && !sending.finishing) sending.sent = (await ask(sending, `/${sending.id}`)).received;
      return await act();
    } catch (error) {
      if (error instanceof Refusal || sending.stop.signal.aborted || tried >= TRIES) throw error;
      say(`The connection was lost; trying again (${tried + 1} of ${TRIES}) …`);
      await later(Math.min(500 * 2 ** tried, 15000), sending.stop.signal);
    }
  }
}

function giveUp(sending) {
  if (sending.id) fetch(`${sending.route}/${sending.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

async function send(sending, say) {
  if (!sending.id) {
    const body = JSON.stringify({ name: sending.file.name, bytes: sending.file.size });
    const headers = { "Content-Type": "application/json", [sending.header]: sending.token };
    sending.id = (await ask(sending, "", { method: "POST", body, headers, signal: null })).upload; // to be given up it must have an id
    if (sending.stop.signal.aborted) {
      giveUp(sending);
      throw sending.stop.signal.reason;
    }
  }
  let since = performance.now(), from = sending.sent, speed = 0;
  while (sending.sent < sending.file.size) {
    await patiently(sending, () => sendChunk(sending), say);
    const passed = (performance.now() - since) / 1000;
    if (passed > 0.3) {
      const now = (sending.sent - from) / passed;
      speed = speed ? 0.7 * speed + 0.3 * now : now;
      [since, from] = [performance.now(), sending.sent];
    }
    const left = speed > 0 ? `about ${span((sending.file.size - sending.sent) / speed)} left` : "time left not known yet";
    say(`${size(sending.sent)} of ${size(sending.file.size)}, ${left}`);
  }
  sending.finishing = true;
  say("Checking the file …");
  for (;;) {
    const found = await patiently(sending, () => ask(sending, `/${sending.id}/finish`, { method: "POST" }), say);
    if (!found.checking) return found.upload;
    await later(1000, sending.stop.signal);
  }
}

class Zone {
  constructor(root) {
    this.root = root;
    this.zone = make("div", "zone");
    this.input = make("input", "file");
    this.input.type = "file";
    this.input.tabIndex = -1;
    this.input.setAttribute("aria-hidden", "true");
    this.input.addEventListener("change", () => {
      this.take([...this.input.files]);
      this.input.value = "";
    });
    this.choose = make("button", "choose", "Choose a file");
    this.choose.type = "button";
    this.choose.addEventListener("click", () => this.input.click());
    this.about = make("p", "about");
    this.about.id = "about";
    this.choose.setAttribute("aria-describedby", "about");
    const offer = make("div", "offer");
    offer.append(make("span", "call", "Drop a model file here, or"), this.choose);
    this.offer = offer;
    this.work = make("div", "work");
    this.name = make("p", "name");
    this.bar = make("progress", "bar");
    this.bar.max = 1;
    this.state = make("p", "state");
    this.stop = make("button", "cancel", "Cancel");
    this.stop.type = "button";
    this.stop.addEventListener("click", () => this.cancel("Cancelled; nothing of it was kept."));
    const row = make("div", "row");
    row.append(this.state, this.stop);
    this.work.append(this.name, this.bar, row);
    this.said = make("p", "said");
    this.said.setAttribute("role", "alert");
    this.heard = make("p", "heard"); // the same for who cannot see, in steps of a quarter
    this.heard.setAttribute("aria-live", "polite");
    this.again = make("button", "choose again", "Go on");
    this.again.type = "button";
    this.again.addEventListener("click", () => this.run());
    this.zone.append(offer, this.about, this.work, this.said, this.again, this.heard, this.input);
    root.append(this.zone);
    this.listen();
    window.addEventListener("pagehide", () => this.cancel()); // a closed tab cannot go on: its room is free at once
    this.show("offer");
  }

  listen() {
    let inside = 0;
    const over = (on) => this.zone.classList.toggle("over", on);
    this.zone.addEventListener("dragenter", (event) => (event.preventDefault(), inside++, over(true)));
    this.zone.addEventListener("dragover", (event) => event.preventDefault());
    this.zone.addEventListener("dragleave", () => over(--inside > 0));
    this.zone.addEventListener("drop", (event) => {
      event.preventDefault();
      inside = 0;
      over(false);
      const items = [...(event.dataTransfer.items || [])];
      if (items.some((one) => one.webkitGetAsEntry && one.webkitGetAsEntry()?.isDirectory)) this.complain(ONE_FILE);
      else this.take([...event.dataTransfer.files]);
    });
  }

  show(what, canGoOn = false) {
    this.offer.hidden = this.about.hidden = what !== "offer";
    this.work.hidden = what !== "work";
    this.again.hidden = !canGoOn;
  }

  complain(words, canGoOn = false) {
    this.show("offer", canGoOn);
    this.said.textContent = words;
  }

  take(files) {
    if (this.sending) return;
    if (files.length !== 1) return files.length ? this.complain(ONE_FILE) : undefined;
    const ticket = Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("");
    this.sending = { file: files[0], ticket, sent: 0, step: FIRST, most: LARGEST, stop: new AbortController() };
    this.said.textContent = "";
    this.name.textContent = files[0].name;
    this.tell("Asking for leave to send it …");
    this.show("work");
    this.stop.focus();
    this.trigger("wanted", ticket);
  }

  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    this.about.textContent = data.about;
    const sending = this.sending;
    if (sending && !sending.token && sending.ticket === data.ticket) {
      Object.assign(sending, { token: data.token, route: data.route, header: data.header });
      this.run();
    }
  }

  tell(words) {
    const { sent, file, finishing } = this.sending;
    this.state.textContent = words;
    if (finishing) this.bar.removeAttribute("value");
    else this.bar.value = file.size ? sent / file.size : 0;
    this.bar.setAttribute("aria-label", `${file.name}: ${words}`);
    const quarter = finishing ? 5 : Math.floor((4 * sent) / (file.size || 1));
    if (quarter !== this.quarter) this.heard.textContent = words;
    this.quarter = quarter;
  }

  async run() {
    const sending = (this.sending = this.sending || this.halted);
    this.halted = null;
    this.said.textContent = "";
    this.show("work");
    try {
      const upload = await send(sending, (words) => this.tell(words));
      this.sending = null;
      this.show("offer");
      this.heard.textContent = "The file has arrived.";
      this.trigger("arrived", upload);
    } catch (error) {
      if (sending.stop.signal.aborted) return;
      this.sending = null;
      const refused = error instanceof Refusal;
      const lost = `The connection was lost after ${size(sending.sent)} of ${size(sending.file.size)}; what has arrived is kept for ten minutes.`;
      this.halted = refused || !sending.id ? null : sending;
      this.complain(refused ? error.message : sending.id ? lost : "The server could not be reached; nothing was sent. Try again.", !!this.halted);
      this.choose.focus();
    }
  }

  cancel(words) {
    const sending = this.sending || this.halted;
    this.sending = this.halted = null;
    if (!sending) return;
    sending.stop.abort();
    giveUp(sending);
    if (words) this.complain(words);
    this.choose.focus();
  }
}

export default function (component) {
  const root = component.parentElement.querySelector(".root");
  root.zone = root.zone || new Zone(root);
  root.zone.update(component);
  // Called whenever the page is drawn anew, too: only a zone that has left the page gives its upload up.
  return () => setTimeout(() => root.isConnected || root.zone.cancel(), 0);
}

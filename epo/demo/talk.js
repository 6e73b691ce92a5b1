"use strict";
// The page of the demo. Whatever comes from the model or a person is set as text, never as HTML.

const HEADS = { fused: "both", audio: "voice", video: "face" };
const GONE = "the demo does not answer; is it still running in its terminal?";
const byId = (id) => document.getElementById(id);
let about = null, visit = null, recorder = null, chosenHead = "fused", moments = [], isBusy = false, hasClip = false, playing = null;

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function draw(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function complain(line) {
  byId("problem").textContent = line || "";
  byId("problem").hidden = !line;
}

function setBusy(busy) {
  isBusy = busy;
  for (const element of document.querySelectorAll("button, select, #file")) element.disabled = busy;
}

// --- talking to the server ---

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (visit) headers["X-Visit"] = visit;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error(GONE);
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  if (response.status === 410 && path !== "api/talk") await begin();
  throw new Error(said.error || `the demo answered ${response.status}`);
}

const post = (path, said = {}) => ask(path, { method: "POST", body: JSON.stringify(said), headers: { "Content-Type": "application/json" } });

async function begin() {
  visit = null;
  visit = (await (await post("api/visit")).json()).visit;
  sessionStorage.setItem("visit", visit);
  showTalk({ turns: [], memory: [] });
}

// Server-sent events of a POST, which EventSource cannot send.
async function follow(response, hear) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [, kind, data] = event.match(/^event: (.*)\ndata: (.*)$/s);
      const said = JSON.parse(data);
      if (kind === "error") throw new Error(said.error);
      hear[kind](said);
    }
  }
}

async function attempt(work) {
  if (isBusy) return;
  complain("");
  setBusy(true);
  try {
    await work();
  } catch (error) {
    complain(error instanceof TypeError ? GONE : error.message); // what a browser makes of a lost connection
  } finally {
    setBusy(false);
  }
}

// --- what it hears and sees ---

function showShares(shares) {
  byId("bars").replaceChildren();
  if (!shares) return;
  const most = Math.max(...shares.fused);
  about.emotions.forEach((emotion, place) => {
    const row = make("div", `bar ${emotion}${shares.fused[place] === most ? " most" : ""}`);
    const bars = make("div");
    for (const head of Object.keys(HEADS)) {
      if (!shares[head]) continue;
      const bar = make("i");
      bar.style.width = `${100 * shares[head][place]}%`;
      bar.title = `${HEADS[head]}: ${(100 * shares[head][place]).toFixed(0)} %`;
      bars.append(bar);
    }
    row.append(make("span", "", emotion), bars, make("b", "", `${(100 * shares.fused[place]).toFixed(0)} %`));
    byId("bars").append(row);
  });
}

function showCourse() {
  const points = moments.filter((moment) => moment.shares[chosenHead]);
  byId("course").hidden = points.length === 0;
  if (points.length === 0) return;
  const heads = Object.keys(HEADS).filter((head) => moments[0].shares[head]);
  byId("tabs").replaceChildren(...heads.map((head) => {
    const tab = make("button", "", HEADS[head]);
    tab.type = "button";
    tab.setAttribute("aria-pressed", String(head === chosenHead));
    tab.addEventListener("click", () => { chosenHead = head; showCourse(); });
    return tab;
  }));
  const longest = points[points.length - 1].seconds, [left, width, height] = [6, 388, 122];
  const x = (seconds) => left + width * seconds / longest;
  const first = { seconds: 0, shares: points[0].shares };
  const line = [first, ...points], areas = [];
  let below = line.map(() => 0);
  about.emotions.forEach((emotion, place) => {
    const above = line.map((point, i) => below[i] + point.shares[chosenHead][place]);
    const there = line.map((point, i) => `${x(point.seconds)},${height * (1 - above[i])}`);
    const back = line.map((point, i) => `${x(point.seconds)},${height * (1 - below[i])}`).reverse();
    const area = draw("polygon", { points: [...there, ...back].join(" "), class: `area ${emotion}` });
    area.append(draw("title", {}, `${emotion}: ${(100 * points[points.length - 1].shares[chosenHead][place]).toFixed(0)} % of the whole clip`));
    areas.push(area);
    below = above;
  });
  areas.push(draw("text", { x: left, y: 143 }, "0 s"), draw("text", { x: left + width, y: 143, "text-anchor": "end" }, `${longest.toFixed(1)} s`));
  byId("areas").replaceChildren(...areas);
  byId("course-says").textContent = `Each of ${points.length} points is what the model would make of the clip, had it ended there; colours as above.`;
}

function showPerceived(said) {
  moments = [];
  chosenHead = "fused";
  byId("course").hidden = true;
  byId("sense").textContent = said.shares ? `${said.sense[0].toUpperCase()}${said.sense.slice(1)}, ${said.seconds.toFixed(1)} s; thick: ${said.sense === "heard and seen" ? "both; thin: voice, then face" : "all of it; thin: that sense alone"}.`
    : `${said.sense[0].toUpperCase()}${said.sense.slice(1)}, ${said.seconds.toFixed(1)} s; this model names no emotion before it answers.`;
  showShares(said.shares);
  byId("notes").replaceChildren(...said.notes.map((note) => make("li", "", note)));
  byId("clip-says").textContent = "It goes with your next words.";
  hasClip = true;
}

function forgetClip() {
  hasClip = false;
  byId("clip").hidden = true;
  byId("samples").value = "";
  const player = byId("player");
  player.pause();
  player.removeAttribute("src");
  player.srcObject = null;
  if (playing) URL.revokeObjectURL(playing);
  playing = null;
}

function play(address) {
  const player = byId("player");
  byId("clip").hidden = false;
  player.srcObject = null;
  player.muted = false;
  player.controls = true;
  player.src = address;
  byId("clip-says").textContent = "Listening …";
}

const hearing = { perceived: showPerceived, moment: (moment) => { moments.push(moment); showCourse(); } };

async function listen(send, address) {
  forgetClip();
  play(address);
  try {
    await follow(await send(), hearing);
  } catch (error) {
    if (!hasClip) forgetClip();
    throw error;
  }
}

async function upload(blob) {
  if (blob.size > about.max_upload_bytes)
    throw new Error(`the recording is larger than ${about.max_upload_bytes / 2 ** 20} MiB; take a shorter one`);
  const address = URL.createObjectURL(blob);
  await listen(() => ask("api/clip", { method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" } }), address);
  playing = address;
}

// --- recording ---

async function record(button, wanted) {
  if (recorder) {
    recorder.stop();
    return;
  }
  if (isBusy) return;
  complain("");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    complain(`no ${wanted.video ? "camera or microphone" : "microphone"} can be had (${error.name}); upload a clip instead, or allow it for this page`);
    return;
  }
  setBusy(true);
  forgetClip();
  const kinds = wanted.video ? ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"] : ["audio/webm;codecs=opus", "audio/ogg", "audio/mp4"];
  const kind = kinds.find((name) => MediaRecorder.isTypeSupported(name)), pieces = [], label = button.textContent;
  recorder = new MediaRecorder(stream, kind ? { mimeType: kind } : {});
  const player = byId("player");
  byId("clip").hidden = false;
  player.srcObject = stream;
  player.muted = true;
  player.controls = false;
  player.play();
  const began = performance.now();
  const clock = setInterval(() => {
    const seconds = (performance.now() - began) / 1000;
    byId("clip-says").textContent = `Recording, ${seconds.toFixed(0)} s; the model reads ${about.max_seconds} s.`;
    if (seconds >= about.max_seconds && recorder) recorder.stop();
  }, 200);
  recorder.ondataavailable = (event) => pieces.push(event.data);
  recorder.onstop = () => {
    clearInterval(clock);
    for (const track of stream.getTracks()) track.stop();
    const blob = new Blob(pieces, { type: recorder.mimeType });
    recorder = null;
    button.textContent = label;
    button.classList.remove("recording");
    setBusy(false);
    attempt(() => upload(blob));
  };
  recorder.start(250);
  button.textContent = "■ Stop";
  button.classList.add("recording");
  button.disabled = false;
}

// --- the talk ---

function addTurn(speaker, words, emotion, isWriting = false) {
  const turns = byId("turns");
  turns.querySelector(".empty")?.remove();
  const turn = make("div", `turn ${speaker}${isWriting ? " writing" : ""}`);
  fillTurn(turn, words, emotion);
  turns.append(turn);
  turns.scrollTop = turns.scrollHeight;
  return turn;
}

function fillTurn(turn, words, emotion) {
  turn.replaceChildren();
  if (emotion) turn.append(make("span", `tag ${emotion}`, emotion));
  turn.append(words);
}

function showMemory(sizes) {
  const last = sizes[sizes.length - 1] || { turns: 0, vectors: 0, text_tokens: 0 };
  const isText = last.vectors === null;
  byId("num-turns").textContent = last.turns;
  byId("num-vectors").textContent = isText ? "–" : last.vectors;
  byId("vectors-name").textContent = isText ? "memory vectors: it reads text" : `memory vectors${last.num_bytes ? `, ${(last.num_bytes / 1024).toFixed(1)} KiB` : ""}`;
  byId("num-tokens").textContent = last.text_tokens;
  for (const id of ["growth", "growth-says"]) byId(id).toggleAttribute("hidden", sizes.length === 0); // SVG has no .hidden
  if (sizes.length === 0) return;
  const most = Math.max(...sizes.map((size) => Math.max(size.text_tokens, size.vectors || 0)), 1), [left, right, height] = [34, 392, 112];
  const x = (i) => sizes.length === 1 ? right : left + (right - left) * i / (sizes.length - 1), y = (value) => 8 + height * (1 - value / most);
  const parts = [0, most].flatMap((value) => [draw("line", { class: "axis", x1: left, x2: right, y1: y(value), y2: y(value) }), draw("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, value)]);
  for (const [key, name] of [["text_tokens", "text"], ["vectors", "vectors"]]) {
    if (key === "vectors" && isText) continue;
    parts.push(draw("polyline", { class: name, points: sizes.map((size, i) => `${x(i)},${y(size[key])}`).join(" ") }));
    parts.push(...sizes.map((size, i) => draw("circle", { class: `dot-${name}`, cx: x(i), cy: y(size[key]), r: 3 })));
  }
  parts.push(draw("text", { x: right, y: 138, "text-anchor": "end" }, `after reply ${sizes.length}`));
  byId("growth").replaceChildren(...parts);
  byId("growth-says").textContent = isText ? "Blue: tokens of the history, which this model reads as text." : "Blue: tokens that the history would take as text. Yellow: the memory vectors that the model reads instead.";
}

function showTalk(state) {
  byId("turns").replaceChildren();
  if (state.turns.length === 0) byId("turns").append(make("p", "soft empty", "Nothing said yet. Record something, or choose a clip, and say a few words."));
  for (const turn of state.turns) addTurn(turn.speaker, (turn.clip ? "▶ " : "") + turn.text, turn.speaker === "user" ? null : turn.emotion);
  showMemory(state.memory);
}

async function say() {
  const words = byId("words").value.trim();
  const asked = addTurn("user", (hasClip ? "▶ " : "") + words), turn = addTurn("assistant", "", null, true);
  let written = "";
  try {
    await follow(await post("api/say", { words }), {
      piece: (piece) => { written += piece; fillTurn(turn, written); byId("turns").scrollTop = byId("turns").scrollHeight; },
      reply: (reply) => { fillTurn(turn, reply.text || "…", reply.emotion); turn.classList.remove("writing"); },
      memory: showMemory,
    });
    byId("words").value = "";
    forgetClip();
  } catch (error) {
    asked.remove();
    turn.remove();
    throw error;
  }
}

async function start() {
  about = await (await ask("api/about")).json();
  byId("model").textContent = `This is ${about.model}, on this machine alone.`;
  const samples = byId("samples");
  samples.hidden = about.samples.length === 0;
  samples.append(new Option("or a clip of the corpus …", ""), ...about.samples.map((sample, i) => new Option(`${sample.emotion}: ${sample.words}`, i)));
  visit = sessionStorage.getItem("visit");
  const state = visit && await ask("api/talk").then((response) => response.json()).catch(() => null);
  if (!state) return begin();
  showTalk(state);
  await post("api/drop"); // a clip that this page no longer shows
}

byId("composer").addEventListener("submit", (event) => { event.preventDefault(); attempt(say); });
byId("words").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); attempt(say); }
});
byId("record").addEventListener("click", (event) => record(event.currentTarget, { audio: true, video: { width: 640 } }));
byId("voice").addEventListener("click", (event) => record(event.currentTarget, { audio: true }));
byId("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) attempt(() => upload(file));
  event.target.value = "";
});
byId("samples").addEventListener("change", (event) => {
  const number = event.target.value;
  if (number === "") return;
  attempt(async () => {
    await listen(() => post("api/sample", { sample: Number(number) }), `samples/${number}`);
    event.target.value = number;
    byId("words").value = about.samples[number].words;
  });
});
byId("drop").addEventListener("click", () => attempt(async () => { await post("api/drop"); forgetClip(); }));
byId("restart").addEventListener("click", () => attempt(async () => {
  showTalk(await (await post("api/restart")).json());
  forgetClip();
  for (const id of ["bars", "notes"]) byId(id).replaceChildren();
  byId("course").hidden = true;
  byId("sense").textContent = "Nothing yet.";
}));
attempt(start);

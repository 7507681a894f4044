// Classifies a video or a camera with the model beside this page, frame by frame. Nothing is sent anywhere.
import * as ort from "./ort.wasm.min.mjs";

const at = (id) => document.getElementById(id);
const video = at("video");
const seen = at("seen");
/** Columns of the history: frames that are shown of the past. */
const PAST = 240;
/** Milliseconds between two announcements to a screen reader. */
const ANNOUNCE = 2000;

/** A module of one function with one SIMD instruction: valid where wasm has SIMD. */
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

let config, session, picture, state, last, running, announced, best;
let times = [];

function say(text) {
  at("status").textContent = text;
}

async function start() {
  if (!WebAssembly.validate(SIMD)) {
    throw new Error("this browser has no SIMD for WebAssembly, which the model runs on: use a newer one");
  }
  const answer = await fetch("model/config.json");
  if (!answer.ok) throw new Error(`model/config.json is missing (${answer.status})`);
  config = await answer.json();
  ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
  ort.env.wasm.numThreads = 1;
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  const { width, height } = config.frames;
  [seen.width, seen.height] = [width, height];
  picture = seen.getContext("2d", { willReadFrequently: true });
  picture.imageSmoothingQuality = "high";
  at("history").width = PAST;
  at("history").height = config.classes.length * 6;
  for (const name of config.classes) {
    const row = document.createElement("li");
    for (const part of ["name", "track", "value"]) {
      row.append(Object.assign(document.createElement("div"), { className: part }));
    }
    row.children[0].textContent = name;
    row.children[1].append(Object.assign(document.createElement("div"), { className: "bar" }));
    row.children[1].setAttribute("aria-hidden", "true");
    at("bars").append(row);
  }
  const rate = config.frames.fps_rule === "exactly" ? "at" : "at no more than";
  at("about").textContent =
    `${config.model}, trained on: ${config.trained.data}. It is given ${width} × ${height} pixels ${rate} ` +
    `${config.frames.fps} frames a second, and knows ${config.classes.length} classes.`;
  restart();
  at("file").disabled = at("camera").disabled = false;
  say("Choose a video file, or the camera.");
}

/** The states of the graph and how many numbers each has: of the layers, and for what is read of all frames. */
function states() {
  const { cell, hidden } = config.steps;
  const places = ["", ...(config.layers?.above ?? []).map((_, i) => `layer.${i + 2}.`)];
  const names = places.flatMap((place) => (cell === "lstm" ? ["h", "c"] : ["h"]).map((name) => place + name));
  const read = { mean: [["sum", hidden], ["count", 1]], max: [["most", hidden]] }[config.layers?.readout] ?? [];
  return [...names.map((name) => [name, hidden]), ...read];
}

/** The beginning of a clip. */
function restart() {
  const zeros = (units) => new ort.Tensor("float32", new Float32Array(units), [1, units]);
  state = Object.fromEntries(states().map(([name, units]) => [name, zeros(units)]));
  [last, times, announced] = [-1, [], 0];
  at("history").getContext("2d").clearRect(0, 0, PAST, at("history").height);
}

/** The bytes of a picture without its alpha: rows of pixels, red, green and blue. */
function bytes(source) {
  const { width, height } = seen;
  picture.drawImage(source, 0, 0, width, height);
  const from = picture.getImageData(0, 0, width, height).data;
  const to = new Uint8Array(width * height * 3);
  for (let i = 0, o = 0; o < to.length; i += 4, o += 3) {
    to[o] = from[i];
    to[o + 1] = from[i + 1];
    to[o + 2] = from[i + 2];
  }
  return to;
}

/** One frame; probabilities of the clip so far. */
async function push(frame) {
  const begin = performance.now();
  const shape = [1, config.frames.height, config.frames.width, 3];
  const out = await session.run({ frame: new ort.Tensor("uint8", frame, shape), ...state });
  for (const name of Object.keys(state)) state[name] = out[`${name}_next`];
  times.push(performance.now() - begin);
  return out.probabilities.data;
}

function show(probabilities) {
  const first = probabilities.indexOf(Math.max(...probabilities));
  [...at("bars").children].forEach((row, i) => {
    row.children[1].firstChild.style.transform = `scaleX(${probabilities[i]})`;
    row.children[2].textContent = `${(100 * probabilities[i]).toFixed(1)} %`;
    row.classList.toggle("first", i === first);
  });
  const history = at("history").getContext("2d");
  history.drawImage(at("history"), -1, 0);
  probabilities.forEach((p, i) => {
    history.fillStyle = `rgb(${Math.round(255 * p)} ${Math.round(200 * p)} ${Math.round(90 * p)})`;
    history.fillRect(PAST - 1, i * 6, 1, 5);
  });
  best = `${config.classes[first]}, ${(100 * probabilities[first]).toFixed(0)} %`;
  if (performance.now() - announced > ANNOUNCE) {
    announced = performance.now();
    at("top").textContent = best;
  }
  const recent = times.slice(-48).sort((a, b) => a - b);
  const median = recent[recent.length >> 1];
  at("speed").textContent =
    `${times.length} frames; ${median.toFixed(1)} ms each in the model, up to ${Math.floor(1000 / median)} a second.`;
  document.body.dataset.frames = times.length;
}

/** Frames of the playing video at the model's rate, until another run begins. */
async function follow(run) {
  const { fps, fps_rule: rule, every, max_frames: most } = config.frames;
  const next = () => new Promise((done) => video.requestVideoFrameCallback((_, frame) => done(frame)));
  while (running === run) {
    const index = Math.round((await next()).mediaTime * fps);
    if (running !== run) return;
    if (index < last) restart();
    if (index === last) continue;
    // A slower clip repeats its frames where the model was trained on repeated ones; at most a second's.
    const first = rule === "exactly" && last >= 0 ? Math.max(last + 1, index - fps + 1) : index;
    const frame = bytes(video);
    let answer;
    for (last = first; last <= index; last++) {
      if (last % every === 0 && !(most && times.length >= most)) answer = await push(frame);
    }
    last = index;
    if (answer) show(answer);
  }
}

async function play(what) {
  const run = (running = Symbol(what));
  restart();
  at("stop").disabled = false;
  say(`Watching ${what}.`);
  follow(run).catch(fail);
  await video.play();
}

function stop() {
  running = undefined;
  video.pause();
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  at("stop").disabled = true;
}

function fail(error) {
  say(`It does not work: ${error.message ?? error}`);
  document.body.dataset.failed = "yes";
}

at("source").addEventListener("submit", (event) => event.preventDefault());
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (!file) return;
  stop();
  video.loop = false;
  video.src = URL.createObjectURL(file);
  play(file.name).catch(() => fail(new Error(`this browser cannot play ${file.name}: MP4 or WebM are safe choices`)));
});
at("camera").addEventListener("click", async () => {
  try {
    stop();
    video.removeAttribute("src");
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
    await play("the camera");
  } catch (error) {
    fail(new Error(`no camera: ${error.message}`));
  }
});
at("stop").addEventListener("click", () => {
  stop();
  say("Stopped.");
});
video.addEventListener("ended", () => {
  at("top").textContent = best;
  say("The clip is over.");
});

start().catch(fail);

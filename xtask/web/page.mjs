// Classifies a video or a camera with the model beside this page, frame by frame. Nothing is sent anywhere.
import * as ort from "./ort.wasm.min.mjs";

const at = (id) => document.getElementById(id);
const video = at("video");
const seen = at("seen");
/** Columns of the history: frames that are shown of the past. */
const PAST = 240;
/** Milliseconds between two announcements to a screen reader. */
const ANNOUNCE = 2000;
/** Seconds that a picture may stay; what lasts longer is a jump in the clip. */
const LONGEST_GAP = 10;

/** A module of one function with one SIMD instruction: valid where wasm has SIMD. */
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

let config, session, picture, running, announced, best;

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

/** A clip of which nothing was seen. */
function beginning() {
  const zeros = (units) => new ort.Tensor("float32", new Float32Array(units), [1, units]);
  [announced, best] = [0, ""];
  at("history").getContext("2d").clearRect(0, 0, PAST, at("history").height);
  return { state: Object.fromEntries(states().map(([name, units]) => [name, zeros(units)])), frames: 0, times: [] };
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
async function push(clip, frame) {
  const begin = performance.now();
  const shape = [1, config.frames.height, config.frames.width, 3];
  const out = await session.run({ frame: new ort.Tensor("uint8", frame, shape), ...clip.state });
  for (const name of Object.keys(clip.state)) clip.state[name] = out[`${name}_next`];
  clip.times.push(performance.now() - begin);
  return out.probabilities.data;
}

function show({ times }, probabilities) {
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

/** The time in the clip of the picture that comes next; nothing at the end of the clip, if a picture is held until then. */
const next = (held) => new Promise((done) => {
  video.requestVideoFrameCallback((_, frame) => done(frame.mediaTime));
  // The last picture may be announced after the end.
  const end = () => requestAnimationFrame(() => requestAnimationFrame(() => done()));
  video.onended = held && end;
  if (held && video.ended) end();
});

/** Frames of the playing video at the model's rate, until another run begins: those of FFmpeg's filter `fps`, as in training. */
async function follow(run) {
  const { fps, fps_rule: rule, every, max_frames: most } = config.frames;
  // Browsers tell whole microseconds, by which a half may be rounded down.
  const tick = (time) => Math.round((time + 1e-6) * fps);
  let clip = beginning();
  for (;;) {
    const shown = await next(clip.held);
    if (running !== run) return;
    if (shown === clip.shown) continue;
    if (shown < clip.shown) clip = beginning();
    const picture = shown === undefined ? undefined : bytes(video);
    // Sound may go on after the last picture, which is thought to last as long as the one before.
    const time = shown ?? Math.min(clip.shown + (clip.length ?? Infinity), video.duration);
    // The picture before stays until this one; of those in one tick the last is seen. Slower clips may keep their rate.
    let copies = clip.held ? tick(time) - tick(clip.shown) : 0;
    if (rule === "at-most" || copies > LONGEST_GAP * fps) copies = Math.min(copies, 1);
    let answer;
    for (; copies > 0; copies--) {
      if (clip.frames++ % every > 0 || (most && clip.times.length >= most)) continue;
      answer = await push(clip, clip.held);
      if (running !== run) return;
    }
    if (answer) show(clip, answer);
    clip.held = picture;
    if (picture) {
      [clip.length, clip.shown] = [shown - clip.shown || clip.length, shown];
    } else {
      at("top").textContent = best;
      say("The clip is over.");
    }
  }
}

/** Watches a file or a camera in place of what was watched. */
async function watch(what, open, problem) {
  stop();
  URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  const run = (running = Symbol(what));
  at("stop").disabled = false;
  try {
    const source = await open();
    if (running !== run) return release(source);
    if (source instanceof File) video.src = URL.createObjectURL(source);
    else video.srcObject = source;
    say(`Watching ${what}.`);
    follow(run).catch((error) => running === run && fail(error));
    await video.play();
  } catch (error) {
    // A pause or another source ends the wait for the first picture, which is no failure.
    if (running === run && error.name !== "AbortError") fail(new Error(problem(error)));
  }
}

/** Turns a camera off. */
function release(source) {
  source?.getTracks?.().forEach((track) => track.stop());
}

function stop() {
  running = undefined;
  video.pause();
  release(video.srcObject);
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
  video.loop = false;
  watch(file.name, () => file, () => `this browser cannot play ${file.name}: MP4 or WebM are safe choices`);
});
at("camera").addEventListener("click", () => {
  const open = () => navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  watch("the camera", open, (error) => `no camera: ${error.message}`);
});
at("stop").addEventListener("click", () => {
  stop();
  say("Stopped.");
});

start().catch(fail);

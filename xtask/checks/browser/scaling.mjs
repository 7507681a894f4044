// What a browser's canvas makes of clips, where ffmpeg's bicubic filter made the frames that a model was trained on.
//
// node scaling.mjs PAGE PREDICTIONS OUT: a folder that `export --page` wrote, what `predict --json` said of WebM clips at the
// model's rate, and a CSV for what the model says of the same frames as the canvas scales them:
// clip, label of predict, of the canvas, probability of predict's label by predict and by the canvas, largest difference.
import { createReadStream, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { basename, extname, join, resolve } from "node:path";
import { BROWSER, Page } from "./browser.mjs";

const [folder, predictions, out] = process.argv.slice(2).map((path) => resolve(path));
const expected = JSON.parse(readFileSync(predictions));
const clips = new Map(expected.map(({ clip }) => [`/clips/${basename(clip)}`, resolve(clip)]));
const KINDS = { ".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json", ".webm": "video/webm" };

/** The page's folder, and the clips, with ranges, without which a video cannot be searched. */
const server = createServer((request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
  if (path === "/") return response.writeHead(200, { "content-type": "text/html" }).end("<!DOCTYPE html><title>x</title>");
  const file = clips.get(path) ?? join(folder, path);
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  if (size === undefined) return response.writeHead(404).end();
  const [, from, to] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? "") ?? [];
  const [start, end] = [Number(from ?? 0), to ? Number(to) : size - 1];
  const range = from === undefined ? {} : { "content-range": `bytes ${start}-${end}/${size}` };
  const kind = KINDS[extname(file)] ?? "application/octet-stream";
  response.writeHead(from === undefined ? 200 : 206, { "content-type": kind, "accept-ranges": "bytes", "content-length": end - start + 1, ...range });
  createReadStream(file, { start, end }).pipe(response);
});

/** In the browser: the model on all frames of a clip, scaled as page.mjs scales them. */
const WATCH = `async (clip, fps) => {
  globalThis.session ??= await (async () => {
    globalThis.ort = await import("/ort.wasm.min.mjs");
    ort.env.wasm.wasmPaths = new URL("/", location.href).href;
    ort.env.wasm.numThreads = 1;
    return ort.InferenceSession.create("/model.onnx", { executionProviders: ["wasm"] });
  })();
  const config = await (globalThis.config ??= fetch("/model/config.json").then((answer) => answer.json()));
  const { width, height } = config.frames;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const picture = canvas.getContext("2d", { willReadFrequently: true });
  picture.imageSmoothingQuality = "high";
  const video = Object.assign(document.createElement("video"), { muted: true, src: clip });
  await new Promise((done, fail) => { video.onloadeddata = done; video.onerror = () => fail(new Error(clip)); });
  const count = Math.round(video.duration * fps);
  let h = new ort.Tensor("float32", new Float32Array(config.steps.hidden), [1, config.steps.hidden]);
  let probabilities;
  for (let t = 0; t < count; t++) {
    const shown = new Promise((done) => { video.onseeked = done; });
    video.currentTime = (t + 0.5) / fps;
    await shown;
    picture.drawImage(video, 0, 0, width, height);
    const from = picture.getImageData(0, 0, width, height).data;
    const to = new Uint8Array(width * height * 3);
    for (let i = 0, o = 0; o < to.length; i += 4, o += 3) [to[o], to[o + 1], to[o + 2]] = [from[i], from[i + 1], from[i + 2]];
    const frame = new ort.Tensor("uint8", to, [1, height, width, 3]);
    const answer = await session.run({ frame, h });
    h = answer.h_next;
    probabilities = answer.probabilities.data;
  }
  return [count, [...probabilities]];
}`;

const { classes, frames } = JSON.parse(readFileSync(join(folder, "model/config.json")));
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const page = await Page.open(BROWSER, []);
try {
  await page.ask("Page.navigate", { url: `http://127.0.0.1:${server.address().port}/` });
  await page.until("document.title === 'x'");
  const rows = [];
  let changed = 0;
  for (const { clip, frames: count, classes: ranked } of expected) {
    const address = JSON.stringify(`/clips/${basename(clip)}`);
    const [seen, probabilities] = await page.value(`(${WATCH})(${address}, ${frames.fps})`);
    if (seen !== count) throw new Error(`${clip}: ${seen} frames in the browser, ${count} in predict`);
    const by = (name) => probabilities[classes.indexOf(name)];
    const first = classes.reduce((a, b) => (by(b) > by(a) ? b : a));
    const apart = Math.max(...ranked.map(({ class: name, probability }) => Math.abs(by(name) - probability)));
    const { class: label, probability } = ranked[0];
    changed += first !== label;
    rows.push([basename(clip), label, first, ...[probability, by(label), apart].map((p) => p.toFixed(4))].join(","));
  }
  writeFileSync(out, `clip,predict,canvas,p_predict,p_canvas,largest_difference\n${rows.join("\n")}\n`);
  console.log(`${changed} of ${rows.length} answers are others by the canvas`);
} finally {
  await page.close();
  server.close();
}

// A peer of `cargo xtask bench inference`: onnxruntime-web's WebAssembly, as the exported page runs it, on one thread.
//
// node inference.mjs RUNTIME GRAPH FRAMES; then a JSON line per command, as worker.py answers.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [runtime, graph, frames] = process.argv.slice(2);
const ort = await import(pathToFileURL(`${runtime}/ort.wasm.min.mjs`));
const { version } = JSON.parse(readFileSync(`${runtime}/../package.json`));
ort.env.wasm.wasmPaths = `${pathToFileURL(runtime)}/`;
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(graph), { executionProviders: ["wasm"] });
const shape = (name) => [1, ...session.inputMetadata.find((input) => input.name === name).shape.slice(1)];
const bytes = new Uint8Array(readFileSync(frames));
const size = shape("frame").reduce((a, b) => a * b);

/** Seconds of each frame, and the probabilities after the last. */
async function clip() {
  const names = session.inputNames.filter((name) => name !== "frame");
  const zeros = (name) => new ort.Tensor("float32", new Float32Array(shape(name)[1]), shape(name));
  let state = Object.fromEntries(names.map((name) => [name, zeros(name)]));
  const seconds = [];
  let out;
  for (let from = 0; from < bytes.length; from += size) {
    const begin = performance.now();
    const frame = new ort.Tensor("uint8", bytes.subarray(from, from + size), shape("frame"));
    out = await session.run({ frame, ...state });
    seconds.push((performance.now() - begin) / 1000);
    state = Object.fromEntries(names.map((name) => [name, out[`${name}_next`]]));
  }
  return [seconds, [...out.probabilities.data]];
}

for await (const line of createInterface({ input: process.stdin })) {
  const [seconds, probabilities] = await clip();
  const reply = JSON.parse(line).cmd === "init" ? { version, probabilities } : { frame_s: seconds };
  console.log(JSON.stringify({ ok: true, ...reply }));
}

// The exported page in a browser: it says of committed clips what `predict` says, follows a camera, and asks for nothing
// outside of its folder.
//
// node page.mjs ADDRESS PREDICTIONS CAMERA SHOTS: where `cargo xtask serve` serves the page, what `predict --json` said of
// the clips, a clip as Y4M for the camera, and a folder for pictures of the page.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { BROWSER, Page, sleep } from "./browser.mjs";

const [address, predictions, camera, shots] = process.argv.slice(2);
/** A desktop and a phone. */
const WIDTHS = [1280, 390];

/** What the bars say, by class. */
const bars = (page) =>
  page.value(`Object.fromEntries([...document.querySelectorAll("#bars li")].map((row) =>
    [row.children[0].textContent, parseFloat(row.children[2].textContent) / 100]))`);

/** Waits until no more frame comes. */
async function still(page) {
  let [before, now] = [-1, 0];
  while (before !== now) {
    before = now;
    await sleep(700);
    now = await page.value("Number(document.body.dataset.frames)");
  }
  return now;
}

async function shoot(page, name) {
  for (const width of WIDTHS) {
    await page.ask("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: width < 500 });
    await sleep(200);
    const [wide, window] = await page.value("[document.documentElement.scrollWidth, innerWidth]");
    assert(wide <= window && window === width, `the page is ${wide} pixels wide in a window of ${window}`);
    const { data } = await page.ask("Page.captureScreenshot", { captureBeyondViewport: true });
    writeFileSync(join(shots, `${name}-${width}.png`), Buffer.from(data, "base64"));
  }
}

const page = await Page.open(BROWSER, [
  "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${resolve(camera)}`,
]);
try {
  // The server was started a moment ago.
  while (!(await fetch(address).catch(() => undefined))?.ok) await sleep(100);
  await page.ask("Page.navigate", { url: address });
  await page.until("document.getElementById('file')?.disabled === false");
  const expected = JSON.parse(readFileSync(predictions));
  assert(expected.length >= 3);
  let apart = 0;
  for (const { clip, classes } of expected) {
    await page.choose("#file", [resolve(clip)]);
    await page.until("document.getElementById('status').textContent === 'The clip is over.'");
    const frames = await still(page);
    const found = await bars(page);
    const first = Object.keys(found).reduce((a, b) => (found[b] > found[a] ? b : a));
    assert.equal(first, classes[0].class, `${clip}: the page says ${JSON.stringify(found)}`);
    const difference = Math.max(...classes.map(({ class: name, probability }) => Math.abs(found[name] - probability)));
    apart = Math.max(apart, difference);
    console.log(`${clip}: ${first}, ${frames} frames, probabilities at most ${difference.toFixed(3)} from predict's`);
  }
  await shoot(page, "clip");

  await page.value("document.getElementById('camera').click()");
  await page.until("document.getElementById('status').textContent === 'Watching the camera.'");
  await page.until("Number(document.body.dataset.frames) >= 48");
  const sum = Object.values(await bars(page)).reduce((a, b) => a + b);
  assert(Math.abs(sum - 1) < 0.01, `probabilities of a camera that sum to ${sum}`);
  const seen = await page.value(`(() => { const seen = document.getElementById("seen");
    return new Set(seen.getContext("2d").getImageData(0, 0, seen.width, seen.height).data).size; })()`);
  assert(seen > 16, "the camera's picture is empty");
  await shoot(page, "camera");
  console.log(`camera: ${await page.value("document.getElementById('speed').textContent")}`);
  await page.value("document.getElementById('stop').click()");
  assert.equal(await page.value("document.getElementById('status').textContent"), "Stopped.");

  const origin = new URL(address).origin;
  const foreign = page.requests.filter((url) => ![origin, "blob:", "data:", "about:"].some((start) => url.startsWith(start)));
  assert.deepEqual(foreign, [], "the page asks others");
  assert.deepEqual(page.console, [], "the console is not empty");
  assert.equal(await page.value("document.body.dataset.failed"), undefined);
  // What was loaded is all that is needed: the server is asked for nothing more.
  console.log(`the page is right; ${page.requests.length} requests, all to ${origin}; pictures in ${shots}`);
} finally {
  await page.close();
}

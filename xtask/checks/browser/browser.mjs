// A browser without a window, driven over pipes: no package is needed for it.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Milliseconds that anything may take on a busy machine. */
const PATIENCE = 120_000;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** A page in a browser of its own. */
export class Page {
  #browser;
  #profile = mkdtempSync(join(tmpdir(), "page-"));
  #waiting = new Map();
  #last = 0;
  #session;
  /** What the page asked for, and what its console said. */
  requests = [];
  console = [];

  static async open(program, flags) {
    const page = new Page();
    page.#browser = spawn(
      program,
      ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe",
        "--autoplay-policy=no-user-gesture-required", `--user-data-dir=${page.#profile}`, ...flags, "about:blank"],
      { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
    );
    let rest = "";
    page.#browser.stdio[4].setEncoding("utf8").on("data", (text) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop();
      messages.forEach((message) => page.#heard(JSON.parse(message)));
    });
    const { targetId } = await page.#ask("Target.createTarget", { url: "about:blank" });
    page.#session = (await page.#ask("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Runtime", "Network", "DOM", "Log"]) await page.ask(`${domain}.enable`);
    return page;
  }

  #heard({ id, result, error, method, params }) {
    if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
    if (method === "Runtime.consoleAPICalled") this.console.push(params.args.map((arg) => arg.value).join(" "));
    if (method === "Runtime.exceptionThrown") this.console.push(params.exceptionDetails.exception?.description ?? "?");
    if (method === "Log.entryAdded" && params.entry.level === "error") this.console.push(params.entry.text);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(new Error(error.message));
    else waiting?.resolve(result);
  }

  #ask(method, params, sessionId) {
    const id = ++this.#last;
    this.#browser.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      setTimeout(() => reject(new Error(`the browser does not answer ${method}`)), PATIENCE).unref();
    });
  }

  ask(method, params = {}) {
    return this.#ask(method, params, this.#session);
  }

  /** The value of an expression in the page. */
  async value(expression) {
    const answer = await this.ask("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception?.description ?? expression);
    return answer.result.value;
  }

  /** Waits until an expression is true. */
  async until(expression) {
    for (const end = Date.now() + PATIENCE; Date.now() < end; await sleep(50)) {
      if (await this.value(expression)) return;
    }
    const status = await this.value("document.getElementById('status')?.textContent");
    throw new Error(`never true: ${expression}; the page says ${status}; its console ${this.console}`);
  }

  /** Chooses files in an input, as a person does. */
  async choose(selector, files) {
    const { root } = await this.ask("DOM.getDocument");
    const { nodeId } = await this.ask("DOM.querySelector", { nodeId: root.nodeId, selector });
    await this.ask("DOM.setFileInputFiles", { nodeId, files });
  }

  async close() {
    this.#browser.kill();
    await new Promise((done) => this.#browser.once("exit", done));
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** The first browser of this family that is here. */
export const BROWSER = process.env.TT_CHROMIUM ?? "chromium";

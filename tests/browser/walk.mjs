// The walk of the demo in a real browser: with the bridge the session of AppA is there after half a minute in AppB,
// without it the session is lost.
//
// SESSIONBRIDGE_BIN  the binary (needed)
// CHROMIUM           the browser [/usr/bin/chromium]
// SCREENSHOTS        a directory for screenshots (none without it)
//
// Prints "N passed, N failed"; exits 1 where something failed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";

const AWAY_MS = 26_000;
const binary = process.env.SESSIONBRIDGE_BIN;
const screenshots = process.env.SCREENSHOTS;
let passed = 0;
let failed = 0;

function check(what, good, found = "") {
  if (good) passed += 1;
  else failed += 1;
  console.log(`${good ? "ok  " : "FAIL"} ${what}${good || found === "" ? "" : `: found ${JSON.stringify(found)}`}`);
}

async function startDemo() {
  const child = spawn(binary, ["demo", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (bytes) => { said += bytes; });
  const exited = once(child, "exit");
  for (;;) {
    if (said.includes("Ctrl-C")) break;
    const ended = await Promise.race([exited.then(() => true), new Promise((next) => setTimeout(next, 50, false))]);
    if (ended) throw new Error(`the demo did not start: ${said}`);
  }
  const urls = said.match(/http:\/\/\S+/g) ?? [];
  check("the demo says one URL", urls.length === 1, said);
  return { child, exited, url: urls[0] };
}

async function shot(page, name) {
  if (!screenshots) return;
  await mkdir(screenshots, { recursive: true });
  await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

const facts = (page) => page.locator("#app").evaluate(({ dataset }) => ({
  session: dataset.session, started: Number(dataset.started), now: Number(dataset.now),
}));
const cookies = async (context) => (await context.cookies()).map((cookie) => cookie.name).sort();
const monday = (page) => page.locator("#mon").inputValue();

/** A, hours saved, B, 26 s, back to A. What AppA said first and last. */
async function walk(page, name) {
  await page.getByRole("link", { name: "Open the time sheet" }).click();
  const first = await facts(page);
  await page.fill("#mon", "6.25");
  await page.getByRole("button", { name: "Save hours" }).click();
  await page.getByText("saved in this session").waitFor();
  await shot(page, `${name}-1-time-sheet`);
  await page.locator("#step-2 a").click();
  await page.getByRole("button", { name: "Add to basket: Mug" }).click();
  await page.waitForTimeout(AWAY_MS);
  await page.locator("#step-2.done").waitFor();
  await shot(page, `${name}-2-catalogue`);
  return first;
}

async function back(page, name) {
  await page.locator("#step-3 a").click();
  await page.locator("#step-3:is(.good, .bad)").waitFor();
  await page.locator(".card").first().waitFor();
  await shot(page, `${name}-3-back`);
  return facts(page);
}

async function withBridge(context, url) {
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url);
  await shot(page, "with-0-start");
  const first = await walk(page, "with");
  const card = page.locator(".card.app-A");
  check("the panel shows an alive heartbeat", /Last heartbeat .*: alive/.test(await card.locator(".last").innerText()),
    await card.locator(".last").innerText());
  const beats = await card.locator(".dots .dot.beat").count();
  check("the panel shows the heartbeats as dots", beats >= 5, beats);
  const last = await back(page, "with");
  check("the same session after the walk", last.session === first.session && last.started === first.started, { first, last });
  check("it is 26 s older", last.now - first.now >= AWAY_MS, last.now - first.now);
  check("the hours are still there", await monday(page) === "6.25", await monday(page));
  check("the page says so", (await page.locator("#step-3").innerText()).includes("Same session"));
  check("the browser holds the bridge cookie only", (await cookies(context)).join() === "bridge", await cookies(context));
  await page.locator(".chips .chip").first().waitFor();
  check("the panel shows the cookie by its name", await page.locator(".chips .chip").allInnerTexts().then(String) === "bridge");
  check("no link carries an id", !/cfid|cftoken|jsessionid/i.test(
    await page.evaluate(() => [...document.links].map((link) => link.href).join(" "))));
  check("no error in the page's scripts", errors.length === 0, errors);
  await signOut(page, url, first);
  await page.close();
}

async function signOut(page, url, first) {
  await page.goto(`${url}.bridge/logout`);
  await shot(page, "with-4-sign-out");
  await page.getByRole("button").first().click();
  await page.waitForURL(/logout\?done/);
  await shot(page, "with-5-signed-out");
  const said = await page.locator("body").innerText();
  await page.goto(`${url}AppA/index.cfm`);
  const fresh = await facts(page);
  check("both applications confirmed their sign-out", said.match(/has confirmed/g)?.length === 2, said);
  check("after the sign-out AppA begins a new session", fresh.started > first.started && fresh.session !== first.session,
    { first, fresh });
  await page.locator("#step-2 a").click();
  await page.getByRole("link", { name: "Sign out", exact: true }).click();
  await page.getByText("You are signed out").waitFor();
  await page.locator(".card.app-A .badge[data-kind=gone]").waitFor({ timeout: 5000 });
  check("a sign-out in AppB has ended the session of AppA", true);
}

async function withoutBridge(context, url) {
  const page = await context.newPage();
  await page.goto(url);
  await page.getByRole("link", { name: "Without it" }).click();
  await page.waitForURL((at) => at.port !== new URL(url).port);
  check("a banner says that there is no bridge", await page.locator(".banner").isVisible());
  await shot(page, "without-0-start");
  const first = await walk(page, "without");
  check("nobody sends heartbeats", await page.locator(".card.app-A .dots .dot.beat").count() === 0);
  const last = await back(page, "without");
  check("without the bridge the session is another one", last.session !== first.session && last.started > first.started,
    { first, last });
  check("without the bridge the hours are gone", await monday(page) !== "6.25", await monday(page));
  check("the page says so", (await page.locator("#step-3").innerText()).includes("A new session"));
  const names = await cookies(context);
  check("the applications' own cookies are in the browser", names.includes("CFID") && names.includes("CFTOKEN"), names);
  await page.close();
}

async function stop({ child, exited }) {
  const asked = Date.now();
  child.kill("SIGINT");
  const [code, signal] = await exited;
  check("Ctrl-C ends it with exit code 0", code === 0, { code, signal });
  check("within a second", Date.now() - asked < 1000, Date.now() - asked);
}

if (!binary) {
  console.error("SESSIONBRIDGE_BIN must name the binary");
  process.exit(2);
}
const demo = await startDemo();
let browser;
try {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  const context = async () => browser.newContext({ viewport: { width: 1280, height: 900 } });
  // Both at once: each waits for half a minute.
  const both = await Promise.allSettled([
    context().then((fresh) => withBridge(fresh, demo.url)),
    context().then((fresh) => withoutBridge(fresh, demo.url)),
  ]);
  for (const { reason } of both.filter((one) => one.status === "rejected")) check(`the walk: ${reason}`, false);
  await stop(demo);
} catch (error) {
  check(`the walk: ${error}`, false);
} finally {
  demo.child.kill("SIGKILL");
  await browser?.close();
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

// The page: what its buttons do.

import { Column } from "./column.js";
import { show } from "./dom.js";
import { chat, get } from "./events.js";
import { Fields } from "./fields.js";

const KEY = "sottovoce-key"; // of sessionStorage: the tab's own, gone when it is closed
const find = (id) => document.getElementById(id);
const [form, key, notice, columns] = ["form", "key", "notice", "columns"].map(find);
const fields = new Fields(form);
let running = null; // the AbortController of the runs in progress

async function loadModels() {
  try {
    fields.setModels((await get("v1/models", key.value)).data);
    key.removeAttribute("aria-invalid");
    show(notice, "");
  } catch (error) {
    if (error.status === 401) key.setAttribute("aria-invalid", "true");
    show(notice, error.message);
  }
}

function saveKey() {
  if (key.value) sessionStorage.setItem(KEY, key.value);
  else sessionStorage.removeItem(KEY);
  return loadModels();
}

async function run(column, request, signal) {
  if (signal.aborted) {
    column.stop();
    return;
  }
  column.begin();
  try {
    for await (const chunk of chat(request, key.value, signal)) column.take(chunk);
    column.end();
  } catch (error) {
    if (signal.aborted) column.stop();
    else column.fail(error);
  }
}

function setRunning(controller) {
  running = controller;
  find("run").disabled = controller !== null;
  find("stop").disabled = controller === null;
}

async function runAll() {
  const { modes } = fields;
  show(notice, modes.length ? "" : "Choose a mode.");
  if (!modes.length || running) return;
  setRunning(new AbortController());
  const { signal } = running;
  const runs = modes.map((mode) => [
    new Column(find("column"), mode, fields.thresholdOf(mode)),
    fields.request(mode),
  ]);
  columns.replaceChildren(...runs.map(([column]) => column.article));
  find("legend").hidden = false;
  if (fields.isInTurn) for (const [column, request] of runs) await run(column, request, signal);
  else await Promise.all(runs.map(([column, request]) => run(column, request, signal)));
  setRunning(null);
}

async function share() {
  const link = new URL(location.href);
  link.hash = fields.fragment();
  history.replaceState(null, "", link);
  find("link").value = link.href;
  find("link-label").hidden = false;
  find("link").select();
  const isCopied = await copy(link.href);
  find("share-status").textContent = isCopied ? "Copied." : "Copy the link; it holds no key.";
}

// A page without TLS has no clipboard.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function restore() {
  fields.restore(location.hash.slice(1));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  runAll();
});
form.elements.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
find("stop").addEventListener("click", () => running?.abort());
find("share").addEventListener("click", share);
key.addEventListener("change", saveKey);
window.addEventListener("hashchange", restore);

key.value = sessionStorage.getItem(KEY) ?? "";
restore();
try {
  fields.setCatalogue(await get("playground/catalogue.json"));
  await loadModels();
} catch (error) {
  show(notice, error.message);
}

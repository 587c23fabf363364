// What the person answered and the server has not confirmed yet: kept in localStorage, sent in
// order, tried again until the server has it on its disk. Each tab keeps its own under a key of its
// own; the next one that is opened takes over what was left. Two may then send the same answer: the
// server knows it by its `client_id`.

const RETRY_MS = [300, 600, 1200, 2500, 5000];

export class Outbox {
  // `key` names the store, `sent(answer, body)` and `changed(state)` are called as it goes.
  constructor(key, sent, changed) {
    this.prefix = key;
    this.key = `${key}.${newId()}`;
    this.sent = sent;
    this.changed = changed;
    this.waiting = this.restore();
    this.failures = 0;
    this.problem = "";
    this.running = null;
    window.addEventListener("online", () => this.flush());
  }

  restore() {
    try {
      const left = Object.keys(localStorage).filter((key) => key.startsWith(this.prefix));
      const found = left.flatMap((key) => JSON.parse(localStorage.getItem(key)) ?? []);
      if (found.length) localStorage.setItem(this.key, JSON.stringify(found));
      for (const key of left) localStorage.removeItem(key);
      return found;
    } catch {
      return [];
    }
  }

  add(url, body) {
    this.waiting.push({ url, body: { ...body, client_id: newId() } });
    this.keep();
    this.flush();
  }

  // The undo of something that was never sent needs no server.
  dropLast(path) {
    const last = this.waiting.at(-1);
    if (this.waiting.length < 2 || last.url === "/api/undo" || last.body.path !== path) return false;
    this.waiting.pop();
    this.keep();
    return true;
  }

  // Resolves when everything is sent, or one could not be.
  flush() {
    this.running ??= this.drain().finally(() => {
      this.running = null;
      this.keep();
    });
    return this.running;
  }

  async drain() {
    clearTimeout(this.timer);
    while (this.waiting.length) {
      const { url, body } = this.waiting[0];
      const outcome = await post(url, body);
      if (outcome.retry) {
        this.problem = outcome.problem;
        const wait = RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)];
        this.timer = setTimeout(() => this.flush(), wait);
        break;
      }
      this.waiting.shift();
      this.failures = 0;
      this.problem = "";
      this.keep();
      this.sent(outcome, url, body);
    }
  }

  keep() {
    try {
      if (this.waiting.length) localStorage.setItem(this.key, JSON.stringify(this.waiting));
      else localStorage.removeItem(this.key);
    } catch {
      // A full or forbidden store: the queue lives on in memory, and leaving the page asks.
    }
    this.changed({ unsaved: this.waiting.length, failing: this.failures > 0, problem: this.problem });
  }
}

async function post(url, body) {
  let answer;
  try {
    answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    return { retry: true, problem: "The server does not answer." };
  }
  if (answer.status === 401) return { retry: true, problem: "The link is no longer valid; open the new one." };
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return { content };
  const problem = content.error?.problem ?? `The server answered ${answer.status}.`;
  // What the server calls wrong (400) stays wrong; everything else may pass.
  return answer.status === 400 ? { refused: problem } : { retry: true, problem };
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

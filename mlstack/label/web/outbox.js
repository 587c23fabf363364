// What the person answered and the server has not confirmed yet: kept in localStorage, sent in
// order, tried again until the server has it on its disk.

const RETRY_MS = [300, 600, 1200, 2500, 5000];

export class Outbox {
  // `key` names the store, `sent(answer, body)` and `changed(state)` are called as it goes.
  constructor(key, sent, changed) {
    this.key = key;
    this.sent = sent;
    this.changed = changed;
    this.waiting = this.restore();
    this.failures = 0;
    this.problem = "";
    this.busy = false;
    window.addEventListener("online", () => this.flush());
  }

  restore() {
    try {
      return JSON.parse(localStorage.getItem(this.key)) ?? [];
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

  async flush() {
    if (this.busy) return;
    this.busy = true;
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
    this.busy = false;
    this.keep();
  }

  keep() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.waiting));
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

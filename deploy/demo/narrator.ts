/** How often a step that goes on without a word says what it waits for. */
const quietMs = 5000;

/** What the demo prints: findings, and what is being done when that takes a while. */
export class Narrator implements Disposable {
  readonly #write: (line: string) => void;
  #activity: { readonly what: string; readonly startedAtMs: number } | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** Prints a finding. */
  say(line: string): void {
    this.#end();
    this.#write(line);
  }

  /** Prints what begins now, and again with the time every five seconds until the next finding or activity. */
  doing(what: string): void {
    this.#end();
    this.#activity = { what, startedAtMs: performance.now() };
    this.#write(`… ${what}`);
    this.#timer = setInterval(() => this.#remind(), quietMs);
  }

  [Symbol.dispose](): void {
    this.#end();
  }

  #remind(): void {
    if (this.#activity === null) return;
    const seconds = Math.round((performance.now() - this.#activity.startedAtMs) / 1000);
    this.#write(`… still, after ${seconds} s: ${this.#activity.what}`);
  }

  #end(): void {
    clearInterval(this.#timer);
    this.#activity = null;
  }
}

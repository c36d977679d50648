/** Says what a run does, and how long each part of it took. */
export class Phases {
  readonly #startedAt = performance.now();
  readonly #done: { readonly name: string; readonly durationMs: number }[] = [];

  /** Runs a part and remembers its time. `name`: what there is when it is done. */
  async run<T>(name: string, part: () => Promise<T> | T): Promise<T> {
    const startedAt = performance.now();
    try {
      return await part();
    } finally {
      const durationMs = performance.now() - startedAt;
      this.#done.push({ name, durationMs });
      this.log(`${name} (${seconds(durationMs)} s)`);
    }
  }

  /** Prints a line with the time since the run began. */
  log(line: string): void {
    console.log(`${seconds(performance.now() - this.#startedAt).padStart(7)} s  ${line}`);
  }

  /** One line with all times. */
  summary(): string {
    return this.#done.map(({ name, durationMs }) => `${name} ${seconds(durationMs)} s`).join(', ');
  }
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}

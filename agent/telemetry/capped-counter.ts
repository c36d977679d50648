import { Counter, type Registry } from 'prom-client';

type Series<Label extends string> = {
  readonly labels: Readonly<Record<Label, string>>;
  value: number;
  changedAtMs: number;
};

/** Replaces a workload's name when the cap is reached. */
const otherLabel = 'other';

/**
 * A counter that holds at most `maxSeries` series although the names may grow without bound, and drops series that did
 * not change for `idleTimeoutMs`. When it is full, new values of `openLabels` count as `other`. The remaining labels
 * are closed sets, so what lies beyond the cap is bounded too. Counts in plain numbers; prom-client sees them only at a
 * scrape.
 */
export class CappedCounter<Label extends string> {
  readonly #labelNames: readonly Label[];
  readonly #openLabels: readonly Label[];
  readonly #maxSeries: number;
  readonly #idleTimeoutMs: number;
  readonly #now: () => number;
  readonly #series = new Map<string, Series<Label>>();

  constructor(init: {
    readonly registry: Registry;
    readonly name: `culvert_${string}_total`;
    readonly help: string;
    readonly labelNames: readonly Label[];
    /** Labels whose values are names that users choose. */
    readonly openLabels: readonly Label[];
    readonly maxSeries: number;
    readonly idleTimeoutMs: number;
    readonly now: () => number;
  }) {
    this.#labelNames = init.labelNames;
    this.#openLabels = init.openLabels;
    this.#maxSeries = init.maxSeries;
    this.#idleTimeoutMs = init.idleTimeoutMs;
    this.#now = init.now;
    const series = this.#series;
    const evict = (): void => this.#evict();
    // The registry keeps the counter; only its collect function is used here.
    void new Counter<Label>({
      name: init.name,
      help: init.help,
      labelNames: [...init.labelNames],
      registers: [init.registry],
      collect() {
        evict();
        this.reset();
        for (const { labels, value } of series.values()) this.inc({ ...labels }, value);
      },
    });
  }

  add(labels: Readonly<Record<Label, string>>, amount: number): void {
    const series = this.#find(labels);
    series.value += amount;
    series.changedAtMs = this.#now();
  }

  #find(labels: Readonly<Record<Label, string>>): Series<Label> {
    const known = this.#series.get(this.#key(labels));
    if (known !== undefined) return known;
    if (this.#series.size >= this.#maxSeries) this.#evict();
    const kept = this.#series.size < this.#maxSeries ? labels : this.#withoutNames(labels);
    const key = this.#key(kept);
    const found = this.#series.get(key) ?? { labels: { ...kept }, value: 0, changedAtMs: 0 };
    this.#series.set(key, found);
    return found;
  }

  #withoutNames(labels: Readonly<Record<Label, string>>): Readonly<Record<Label, string>> {
    const replaced: Record<Label, string> = { ...labels };
    for (const label of this.#openLabels) replaced[label] = otherLabel;
    return replaced;
  }

  #key(labels: Readonly<Record<Label, string>>): string {
    return this.#labelNames.map((name) => labels[name]).join('\u0000');
  }

  #evict(): void {
    const oldest = this.#now() - this.#idleTimeoutMs;
    for (const [key, series] of this.#series) if (series.changedAtMs < oldest) this.#series.delete(key);
  }
}

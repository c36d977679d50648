/** One series of a Prometheus text exposition, version 0.0.4. */
export type MetricSample = {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
};

/** Throws when a line is neither a comment nor a sample. */
export function parseMetrics(text: string): MetricSample[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map(parseLine);
}

function parseLine(line: string): MetricSample {
  const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?$/.exec(line);
  if (match === null) throw new Error(`not a line of Prometheus' text format: ${line}`);
  const [, name = '', labelText = '', value = ''] = match;
  const labels = [...labelText.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)].map(
    ([, key = '', text = '']) =>
      [key, text.replaceAll('\\"', '"').replaceAll('\\n', '\n').replaceAll('\\\\', '\\')] as const,
  );
  return { name, labels: Object.fromEntries(labels), value: value === '+Inf' ? Infinity : Number(value) };
}

/**
 * A quantile (0…1) of a Prometheus histogram, summed over all series with matching labels and interpolated inside its bucket
 * like `histogram_quantile`. Null without observations.
 */
export function histogramQuantile(
  samples: readonly MetricSample[],
  name: string,
  quantile: number,
  labels: Readonly<Record<string, string>> = {},
): number | null {
  const buckets = new Map<number, number>();
  for (const sample of samples) {
    if (sample.name !== `${name}_bucket`) continue;
    if (!Object.entries(labels).every(([key, value]) => sample.labels[key] === value)) continue;
    const bound = sample.labels['le'] === '+Inf' ? Infinity : Number(sample.labels['le']);
    buckets.set(bound, (buckets.get(bound) ?? 0) + sample.value);
  }
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (total === 0) return null;
  const rank = quantile * total;
  let [lowerBound, lowerCount] = [0, 0];
  for (const [bound, count] of sorted) {
    if (count >= rank) {
      if (bound === Infinity) return lowerBound;
      return lowerBound + ((bound - lowerBound) * (rank - lowerCount)) / (count - lowerCount || 1);
    }
    [lowerBound, lowerCount] = [bound, count];
  }
  return lowerBound;
}

const durationUnits = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const byteUnits = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const;

/** Parses `250ms`, `5s`, `1.5m`, `24h`, `7d` to milliseconds; `0` needs no unit. Undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  return parseWithUnit(text, durationUnits);
}

/** Parses `512B`, `64KiB`, `4MiB`, `1GiB` to bytes; `0` needs no unit. Undefined for anything else. */
export function parseBytes(text: string): number | undefined {
  return parseWithUnit(text, byteUnits);
}

function parseWithUnit(text: string, units: Readonly<Record<string, number>>): number | undefined {
  if (text === '0') return 0;
  const match = /^(\d+(?:\.\d+)?)([A-Za-z]+)$/.exec(text);
  const unit = match?.[2];
  if (match === null || unit === undefined || !Object.hasOwn(units, unit)) return undefined;
  const value = Number(match[1]) * (units[unit] ?? Number.NaN);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** The shortest exact text of a duration in milliseconds, such as `90s` or `24h`. */
export function formatDuration(ms: number): string {
  return formatWithUnit(ms, durationUnits, 'ms');
}

export function formatBytes(bytes: number): string {
  return formatWithUnit(bytes, byteUnits, 'B');
}

function formatWithUnit(value: number, units: Readonly<Record<string, number>>, smallest: string): string {
  if (value === 0) return '0';
  for (const [unit, size] of Object.entries(units).reverse()) {
    if (value % size === 0) return `${value / size}${unit}`;
  }
  return `${value}${smallest}`;
}

import type { Condition } from './goals.js';

/** Labels of figures in tables. */
const names: Readonly<Record<string, string>> = {
  p99Us: 'p99',
  p999Us: 'p99.9',
  p50Us: 'p50',
  growthOfWindows: 'memory by windows',
  largestRssBytes: 'RSS',
};

/** A figure with its unit, for people. `unit` is that of the case and applies only to `value`. */
export function figureText(name: string, value: number, unit: string): string {
  if (name === 'value') return `${valueText(value, unit)}${unit.startsWith('%') ? '' : ' '}${unit}`;
  if (name.endsWith('Us')) return microsecondsText(value);
  if (name.endsWith('Bytes')) return bytesText(value);
  return threeDigits(value);
}

/** The same without the unit. */
export function valueText(value: number, unit: string): string {
  return unit.startsWith('bytes') || value >= 1000 ? Math.round(value).toLocaleString('en-US') : threeDigits(value);
}

export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const at = Math.max(0, Math.min(units.length - 1, Math.floor(Math.log2(Math.abs(bytes) || 1) / 10)));
  return `${threeDigits(bytes / 1024 ** at)} ${units[at]}`;
}

export function microsecondsText(us: number): string {
  return us >= 1000 ? `${threeDigits(us / 1000)} ms` : `${threeDigits(us)} µs`;
}

/** `≥ 1.3 × best`, `p99 ≤ 1 × best`, `RSS < 90 MiB`. */
export function conditionText({ figure, is, limit, of }: Condition, unit: string): string {
  const sign = { 'at least': '≥', 'at most': '≤', below: '<' }[is];
  const name = figure === 'value' ? '' : `${names[figure] ?? figure} `;
  if (of !== 'itself') return `${name}${sign} ${limit} × ${of}`;
  const text = figure === 'value' && unit.startsWith('bytes') ? bytesText(limit) : figureText(figure, limit, unit);
  return `${name}${sign} ${text}`;
}

function threeDigits(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}

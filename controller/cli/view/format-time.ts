const units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
] as const;

/** `3d`, `23h`, `5m`, `12s`: in the largest unit, rounded down; below a second `0s`. */
export function formatSpan(ms: number): string {
  const unit = units.find(([, size]) => Math.abs(ms) >= size);
  return unit === undefined ? '0s' : `${Math.trunc(ms / unit[1])}${unit[0]}`;
}

/** From this number of the largest unit on, the next smaller unit is left out. */
const precise = 10;

/**
 * Time that is left, in the two largest units: `2h`, `1h 59m`, `3d 4h`, `12d`. Rounded to seconds, and above ten minutes to
 * minutes, so that two hours show as `2h` right after they began.
 */
export function formatLeft(ms: number): string {
  const step = ms >= 600_000 ? 60_000 : 1000;
  const rounded = Math.round(ms / step) * step;
  const at = units.findIndex(([, size]) => rounded >= size);
  const [largest, next] = [units[at], units[at + 1]];
  if (largest === undefined) return '0s';
  const rest = rounded % largest[1];
  const count = Math.trunc(rounded / largest[1]);
  const small = next === undefined || count >= precise ? 0 : Math.trunc(rest / next[1]);
  return `${count}${largest[0]}${small === 0 ? '' : ` ${small}${next?.[0] ?? ''}`}`;
}

/** `5m ago`; empty for null. */
export function formatAge(atMs: number | null, nowMs: number): string {
  return atMs === null ? '' : `${formatSpan(Math.max(0, nowMs - atMs))} ago`;
}

/** `in 11h`, or `expired 2m ago`; empty for null. */
export function formatExpiry(atMs: number | null, nowMs: number): string {
  if (atMs === null) return '';
  return atMs > nowMs ? `in ${formatLeft(atMs - nowMs)}` : `expired ${formatSpan(nowMs - atMs)} ago`;
}

/** `+12ms`, `-3s`; empty for null. */
export function formatSkew(ms: number | null): string {
  if (ms === null) return '';
  const sign = ms < 0 ? '-' : '+';
  const size = Math.abs(ms);
  return sign + (size < 1000 ? `${Math.round(size)}ms` : formatSpan(size));
}

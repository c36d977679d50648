/** A logarithmic axis: the position of a positive number in pixels, and the powers of two to mark. */
export type LogScale = {
  place(value: number): number;
  readonly ticks: readonly number[];
};

/** Maximum distance of an axis from 1, as a power of two; values beyond it are drawn at the end. */
const farthest = 7;

/** From the power of two below the least value to the one above the greatest, with 1 among them. */
export function logScale(values: readonly number[], start: number, end: number): LogScale {
  const exponents = values.map((value) => clamp(Math.log2(value), -farthest, farthest));
  const low = Math.floor(Math.min(-1, ...exponents));
  const high = Math.ceil(Math.max(1, ...exponents));
  const place = (value: number): number => {
    const share = (clamp(Math.log2(value), low, high) - low) / (high - low);
    return Math.round((start + share * (end - start)) * 10) / 10;
  };
  return { place, ticks: Array.from({ length: high - low + 1 }, (_, at) => 2 ** (low + at)) };
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

import type { PortRange } from '../../../shared/policy/snapshot.js';

/** `5432`, `8000-8100` or `any`. */
export function portText([first, last]: PortRange): string {
  if (first === last) return String(first);
  return first === 1 && last === 65_535 ? 'any' : `${first}-${last}`;
}

/** `1 connection`, `2 connections`. */
export function countText(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

const maxNamed = 6;

/** `billing/api, billing/web, +12`. */
export function namesText(names: readonly string[]): string {
  const more = names.length - maxNamed;
  return [...names.slice(0, maxNamed), ...(more > 0 ? [`+${more}`] : [])].join(', ');
}

import { warn, type Finding } from '../mesh-check.js';
import type { Listed } from './cluster-facts.js';

const maxNames = 5;

/** `a, b, c, d, e and 3 more`. */
export function listText(names: readonly string[]): string {
  const shown = names.slice(0, maxNames).join(', ');
  return names.length <= maxNames ? shown : `${shown} and ${names.length - maxNames} more`;
}

/** What cannot be read is never taken for what is not there. */
export function notRead(what: string, problem: string): Finding {
  return warn(`${what} cannot be read, so this is not checked: ${problem}`, 'ask with an account that may list them');
}

/** One warning for each of these lists that could not be read. */
export function unread(lists: Readonly<Record<string, Listed<unknown>>>): Finding[] {
  return Object.entries(lists).flatMap(([what, list]) => ('problem' in list ? [notRead(what, list.problem)] : []));
}

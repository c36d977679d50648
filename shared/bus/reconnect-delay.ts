const firstDelayMs = 250;
const longestDelayMs = 5000;

/**
 * How long to wait before attempt number `attempt` (0 is the first): doubling from a quarter of a second to five
 * seconds, of which a random half is taken away, so that a thousand agents do not come back in the same moment.
 */
export function reconnectDelayMs(attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(attempt, 10));
  return Math.round(ceiling * (0.5 + random() / 2));
}

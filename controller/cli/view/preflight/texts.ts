const maxNames = 5;

/** `a, b, c, d, e and 3 more`. */
export function listText(names: readonly string[]): string {
  const shown = names.slice(0, maxNames).join(', ');
  return names.length <= maxNames ? shown : `${shown} and ${names.length - maxNames} more`;
}

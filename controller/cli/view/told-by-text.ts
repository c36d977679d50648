import type { TellingEnds } from '../../analysis/flows/conversations.js';

/** Who tells recorded connections, for a column TOLD BY. Where two agents should, one of them alone may have invented them. */
export function toldByText(toldBy: TellingEnds | null): string {
  return toldBy === null ? 'its agent' : texts[toldBy];
}

const texts: Readonly<Record<TellingEnds, string>> = {
  both: 'both ends',
  source: 'source only',
  destination: 'destination only',
  differently: 'ends differ',
};

/**
 * How much of its worlds a property test tries: a share above 0, up to 1. `npm run test:unit` tries a fifth, in seconds; the
 * gate a quarter; `npm test unit`, which a release needs too, all. The worlds are different in every run, so that the runs of a
 * day see more of them than one long run.
 */
export const worldsVariable = 'CULVERT_TEST_WORLDS';
export const fewWorlds = 0.2;

const share = Number(process.env[worldsVariable] ?? fewWorlds);

/** Runs of a property. */
export function propertyRuns(all: number): number {
  return Math.ceil(all * share);
}

/** How often they must at least have met something: in a short run chance decides, so less than its share. */
export function propertyHits(all: number): number {
  return share === 1 ? all : Math.floor((all * share) / 8);
}

/**
 * How much of its worlds a property test of rules tries. The gate tries all; `npm run test:unit` a fifth, in seconds. The
 * worlds are different in every run, so that the short runs of a day see more of them than one long run.
 */
export const thoroughVariable = 'CULVERT_TEST_THOROUGH';

const share = process.env[thoroughVariable] === '1' ? 1 : 0.2;

/** Runs of a property. */
export function propertyRuns(inTheGate: number): number {
  return Math.ceil(inTheGate * share);
}

/** How often they must at least have met something: in a short run chance decides, so less than its share. */
export function propertyHits(inTheGate: number): number {
  return share === 1 ? inTheGate : Math.floor((inTheGate * share) / 8);
}

import { CulvertError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { removeEverything } from './capture/remove-everything.js';
import { StateDirectory } from './control/state/state-directory.js';

/**
 * Removes capture from every namespace that the state directory lists, from the given ones, and from the host. Returns
 * the lines to print. Throws CulvertError `REMOVE_INCOMPLETE` if something stayed; the list is kept then, so the
 * command can be repeated.
 */
export async function removeCapture(o: {
  readonly stateDir: string;
  readonly netnsPaths: readonly string[];
  readonly log: Log;
}): Promise<readonly string[]> {
  const directory = new StateDirectory({ path: o.stateDir });
  const { namespaces } = await directory.readCaptured(o.log);
  const netnsPaths = [...namespaces.map((namespace) => namespace.netnsPath), ...o.netnsPaths];
  const places = await removeEverything({ netnsPaths });
  const problems = places.flatMap(({ place, problem }) => (problem === null ? [] : [`${place}: ${problem}`]));
  if (problems.length > 0) {
    throw new CulvertError({
      code: 'REMOVE_INCOMPLETE',
      message: `capture is still in place somewhere: ${problems.join('; ')}`,
      hint: 'fix the problems named and run "culvert-agent remove" again',
    });
  }
  if (namespaces.length > 0) await directory.captured.write({ namespaces: [] });
  return places.map(({ place }) => `removed: ${place}`);
}

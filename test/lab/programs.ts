import { statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The output folder of the build. */
const builtDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/**
 * What agents of a lab become. No user of any machine, and outside the numbers that useradd(8) and systemd give out, so
 * nothing else has it.
 */
export const labUser = { uid: 1_048_231, gid: 1_048_231 } as const;

/** Whether agents of a lab have a helper. Not where only root can enter the build, as in a clone in /root. */
export const hasHelpers = isOpenToAll(builtDir);

/** What every program of a lab gets: an agent becomes the lab's user, if that can read the build. */
export const labEnvironment: Readonly<Record<string, string>> = {
  CULVERT_AGENT_USER: `${labUser.uid}:${labUser.gid}`,
  ...(hasHelpers ? {} : { CULVERT_AGENT_PRIVILEGES: 'whole' }),
};

function isOpenToAll(directory: string): boolean {
  const isOpen = (statSync(directory).mode & 0o001) !== 0;
  return isOpen && (path.dirname(directory) === directory || isOpenToAll(path.dirname(directory)));
}

/** Argument vectors of the three commands in a lab: this Node, running the build. */
export const programs = {
  culvert: [process.execPath, path.join(builtDir, 'programs/culvert.js')],
  agent: [process.execPath, path.join(builtDir, 'programs/culvert-agent.js')],
  controller: [process.execPath, path.join(builtDir, 'programs/culvert-controller.js')],
} as const;

/** The file of a data-plane thread in the build of the programs, for `Worker`. */
export const dataPlaneThread = path.join(builtDir, 'programs/data-plane-worker.js');

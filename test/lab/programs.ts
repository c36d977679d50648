import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that the programs were built into. */
const builtDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/** How the three commands are started in a lab: with this Node, from the build. */
export const programs = {
  culvert: [process.execPath, path.join(builtDir, 'controller/cli/main.js')],
  agent: [process.execPath, path.join(builtDir, 'agent/main.js')],
  controller: [process.execPath, path.join(builtDir, 'controller/main.js')],
} as const;

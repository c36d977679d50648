import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The output folder of the build. */
const builtDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/** Argument vectors of the three commands in a lab: this Node, running the build. */
export const programs = {
  culvert: [process.execPath, path.join(builtDir, 'controller/cli/main.js')],
  agent: [process.execPath, path.join(builtDir, 'agent/main.js')],
  controller: [process.execPath, path.join(builtDir, 'controller/main.js')],
} as const;

import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The output folder of the build. */
const builtDir = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/** Argument vectors of the three commands in a lab: this Node, running the build. */
export const programs = {
  culvert: [process.execPath, path.join(builtDir, 'programs/culvert.js')],
  agent: [process.execPath, path.join(builtDir, 'programs/culvert-agent.js')],
  controller: [process.execPath, path.join(builtDir, 'programs/culvert-controller.js')],
} as const;

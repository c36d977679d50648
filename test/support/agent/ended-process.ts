import { spawnSync } from 'node:child_process';

/** As the mark of an agent that was killed: its file says how it stood, and no process with the mark runs. */
export const endedProcess = `00000000-0000-0000-0000-000000000000 ${spawnSync('true').pid} 1`;

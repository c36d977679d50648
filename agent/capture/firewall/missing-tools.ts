import { CulvertError } from '../../../shared/errors.js';
import { CommandRunner, captureTools } from './command-runner.js';

export type MissingTool = { readonly command: string; readonly debianPackage: string };

/** Which of the programs that capture runs are not on this machine. */
export async function findMissingTools(): Promise<MissingTool[]> {
  const runner = new CommandRunner({ maxParallel: 2 });
  const checks = Object.entries(captureTools).map(async ([command, debianPackage]) => {
    try {
      await runner.run({ argv: [command, '-V'], netnsFd: null });
      return [];
    } catch (error) {
      if (error instanceof CulvertError && error.code === 'CAPTURE_TOOL') return [{ command, debianPackage }];
      throw error;
    }
  });
  return (await Promise.all(checks)).flat();
}

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';

/**
 * Runs a program that writes, and prints the number of each thing that is on disk, a line each. Kills it when it has printed
 * `wanted` of them, at whatever it does then. Returns the numbers; a last line without its end was cut by the kill too.
 */
export async function killedWriter(program: string, argument: string, wanted: number): Promise<number[]> {
  const child = spawn(process.execPath, [program, argument], { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.setEncoding('utf8');
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => reject(new Error(`the writer ended by itself, with ${code}`)));
    child.stdout.on('data', (text: string) => {
      out += text;
      if (out.split('\n').length > wanted) resolve();
    });
  });
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
  return out.split('\n').slice(0, -1).map(Number);
}

import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { CulvertError } from '../../shared/errors.js';

/** One file per lab, so that a later run can remove what a dead owner left. A reboot removes it, as it does namespaces. */
const labStateDirectory = '/run/culvert-lab';
/** A prefix is `cv` and four hex digits. It is short because it is part of interface names (15 characters). */
const labPrefixPattern = /^cv[0-9a-f]{4}$/;

const labStateSchema = z.strictObject({
  prefix: z.string().regex(labPrefixPattern),
  /** Null: the lab has no owner and stays until `npm run lab -- down`. */
  owner: z.strictObject({ pid: z.number().int(), startTicks: z.string() }).nullable(),
  createdAt: z.string(),
  /** The test run that created it (CULVERT_TEST_RUN); null outside the runner. */
  testRun: z.string().nullable(),
  /** Names under /run/netns; each may have a directory of the same name in /etc/netns. */
  namespaces: z.array(z.string()),
  tempDir: z.string(),
  /** Describes the nodes, for people who hold the lab. */
  nodes: z.array(z.strictObject({ name: z.string(), netns: z.string(), ipv4: z.string(), ipv6: z.string() })),
});
export type LabState = z.infer<typeof labStateSchema>;

/**
 * Claims a free prefix by creating its file, before anything else of the lab exists. It links a finished file, which is
 * atomic and fails when the name is taken.
 */
export function claimPrefix(describe: (prefix: string) => LabState): LabState {
  for (let attempt = 0; attempt < 100; attempt++) {
    const state = describe(`cv${randomBytes(2).toString('hex')}`);
    if (tryWrite(state)) return state;
  }
  const hint = 'npm run lab -- list shows them, npm run lab -- down --all removes those that are held';
  throw new CulvertError({ code: 'LAB_PREFIX', message: 'There is no free prefix: too many labs exist.', hint });
}

/** All labs of this machine. Throws `LAB_STATE`, which names a file that is not the state of a lab. */
export function readLabStates(): LabState[] {
  return listStateFiles().flatMap((name) => {
    const file = path.join(labStateDirectory, name);
    const text = readIfThere(file);
    if (text === null) return [];
    const parsed = labStateSchema.safeParse(parseJson(text));
    if (parsed.success) return [parsed.data];
    const hint = `remove the namespaces that begin with ${name.slice(0, -5)}- (ip netns del), then that file`;
    throw new CulvertError({ code: 'LAB_STATE', message: `${file} is not the state of a lab.`, hint });
  });
}

/** The last part of a lab to be removed. */
export function removeLabState(prefix: string): void {
  rmSync(stateFile(prefix), { force: true });
  removeIfEmpty(labStateDirectory);
}

/** Directories that labs share; the last lab removes them. */
export function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // Another lab still uses it, or it was already removed.
  }
}

function tryWrite(state: LabState): boolean {
  const temporary = path.join(labStateDirectory, `.${state.prefix}.${process.pid}`);
  for (;;) {
    try {
      mkdirSync(labStateDirectory, { recursive: true });
      writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
      linkSync(temporary, stateFile(state.prefix));
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return false;
      // Another lab just removed the empty directory: create it again.
      if (code !== 'ENOENT') throw error;
    } finally {
      rmSync(temporary, { force: true });
    }
  }
}

function listStateFiles(): string[] {
  try {
    return readdirSync(labStateDirectory).filter((name) => /^cv[0-9a-f]{4}\.json$/.test(name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function stateFile(prefix: string): string {
  return path.join(labStateDirectory, `${prefix}.json`);
}

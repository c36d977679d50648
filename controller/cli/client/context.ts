import { stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { readNamedFile } from '../../../shared/named-file.js';
import { usageError, type CliError } from '../exit-codes.js';
import { lazyYaml } from '../view/lazy-yaml.js';
import { readPlainContext } from './plain-context.js';

/** The controller's address, the CA to trust for it, and the credential. */
export type Context = { readonly url: URL; readonly caPem: string; readonly token: string };

/** A context, and the files that it is from. */
export type LoadedContext = Context & {
  readonly path: string;
  /** The file of the CA; null: it is in the context file. */
  readonly caPath: string | null;
};

/** More than a context file with a long chain has. */
const maxContextBytes = 1024 * 1024;

/** Fields of a context file. `culvert-controller` writes one (`admin.yaml` in its state directory); people may write others. */
const fieldNames = ['controller', 'ca', 'caFile', 'token'];

/** Default paths when neither `--context` nor CULVERT_CONTEXT names a file: the user's, then this host's. */
export function defaultContextPaths(env: Readonly<Record<string, string | undefined>>): string[] {
  const configHome = env['XDG_CONFIG_HOME'] ?? join(env['HOME'] ?? homedir(), '.config');
  return [join(configHome, 'culvert', 'context.yaml'), '/var/lib/culvert/controller/admin.yaml'];
}

/** Throws CliError (usage), which says how to get a context file or what is wrong with it. */
export async function loadContext(
  option: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
  warn: (text: string) => void = () => undefined,
): Promise<LoadedContext> {
  const named = option ?? env['CULVERT_CONTEXT'];
  const paths = named === undefined || named === '' ? defaultContextPaths(env) : [named];
  for (const path of paths) {
    const text = await readIfPresent(path);
    if (text === undefined) continue;
    if (await isOpenToOthers(path))
      warn(`warning: other users can read ${path}, and it has a token: chmod 600 ${path}`);
    return await parseContext(path, text);
  }
  throw usageError(
    `there is no context file at ${paths.join(' or ')}`,
    'pass yours with --context or CULVERT_CONTEXT; an administrator makes one: culvert user create NAME --out FILE (on the host of the controller, sudo finds admin.yaml)',
  );
}

async function parseContext(path: string, text: string): Promise<LoadedContext> {
  const fields = readPlainContext(text) ?? parseYaml(path, text);
  const problems = problemsOf(fields);
  if (problems.length > 0) throw unusable(path, problems.join('; '));
  const { controller, ca, caFile, token } = fields as Fields;
  const caPath = ca === undefined ? resolve(dirname(path), caFile ?? '') : null;
  const caPem = ca ?? (await readCa(path, caPath ?? ''));
  if (!caPem.includes('-----BEGIN CERTIFICATE-----')) throw unusable(path, 'its CA is not a PEM certificate');
  return { url: new URL(controller), caPem, token, path, caPath };
}

type Fields = {
  readonly controller: string;
  readonly ca?: string;
  readonly caFile?: string;
  readonly token: string;
};

/** Checks by hand, because loading a schema library takes longer than most commands. */
function problemsOf(fields: unknown): string[] {
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) return ['file: must be a mapping'];
  const { controller, ca, caFile, token } = fields as Record<string, unknown>;
  const problems: string[] = [];
  if (typeof controller !== 'string' || !isHttps(controller)) problems.push('controller: must be an https:// address');
  for (const [name, value] of Object.entries({ ca, caFile })) {
    if (value !== undefined && (typeof value !== 'string' || value === ''))
      problems.push(`${name}: must be a non-empty string`);
  }
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    problems.push('token: must be printable ASCII without spaces');
  }
  const unknown = Object.keys(fields).filter((name) => !fieldNames.includes(name));
  if (unknown.length > 0) problems.push(`file: unknown fields ${unknown.join(', ')}`);
  if ((ca === undefined) === (caFile === undefined)) problems.push('file: needs either ca (PEM) or caFile');
  return problems;
}

function isHttps(text: string): boolean {
  return URL.canParse(text) && new URL(text).protocol === 'https:';
}

function parseYaml(path: string, text: string): unknown {
  try {
    return lazyYaml().parse(text);
  } catch (cause) {
    throw unusable(path, 'it is not YAML', cause);
  }
}

async function readCa(contextPath: string, caPath: string): Promise<string> {
  const text = await readIfPresent(caPath);
  if (text === undefined) throw unusable(contextPath, `caFile names ${caPath}, which does not exist`);
  return text;
}

async function readIfPresent(path: string): Promise<string | undefined> {
  const file = await readNamedFile(path, { maxBytes: maxContextBytes });
  if (file.isRead) return file.bytes.toString('utf8');
  if (file.isMissing) return undefined;
  if ((file.cause as NodeJS.ErrnoException | undefined)?.code !== 'EACCES')
    throw unusable(path, file.problem, file.cause);
  const hint = 'pass your own context file with --context, or use sudo';
  throw usageError(`no permission to read ${path}`, hint, file.cause);
}

/** A pipe or a device has no one else to read it, or rights that this user did not choose. */
async function isOpenToOthers(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true && (found.mode & 0o007) !== 0;
}

function unusable(path: string, detail: string, cause?: unknown): CliError {
  const hint = 'it needs controller (https://…), ca or caFile, and token, like admin.yaml of the controller';
  return usageError(`the context file ${path} is unusable: ${detail}`, hint, cause);
}

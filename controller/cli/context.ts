import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { usageError, type CliError } from './exit-codes.js';

/** Which controller to talk to, whom to trust for it, and with what credential. */
export type Context = { readonly url: URL; readonly caPem: string; readonly token: string };

/** The file, as `culvert-controller` writes it (`admin.yaml` in its state directory) or a person does. */
const contextSchema = z
  .strictObject({
    controller: z.url({ protocol: /^https$/, error: 'must be an https:// address' }),
    ca: z.string().min(1).optional(),
    caFile: z.string().min(1).optional(),
    token: z.string().regex(/^[\x21-\x7e]+$/, 'must be printable ASCII without spaces'),
  })
  .refine(({ ca, caFile }) => (ca === undefined) !== (caFile === undefined), 'needs either ca (PEM) or caFile');

/** Where the file is looked for when neither `--context` nor CULVERT_CONTEXT names one: the user's, then this host's. */
export function defaultContextPaths(env: Readonly<Record<string, string | undefined>>): string[] {
  const configHome = env['XDG_CONFIG_HOME'] ?? join(env['HOME'] ?? homedir(), '.config');
  return [join(configHome, 'culvert', 'context.yaml'), '/var/lib/culvert/controller/admin.yaml'];
}

/** Throws CliError (usage) that says where a context file comes from, or what is wrong with it. */
export async function loadContext(
  option: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Context> {
  const named = option ?? env['CULVERT_CONTEXT'];
  const paths = named === undefined || named === '' ? defaultContextPaths(env) : [named];
  for (const path of paths) {
    const text = await readIfPresent(path);
    if (text !== undefined) return await parseContext(path, text);
  }
  throw usageError(
    `there is no context file at ${paths.join(' or ')}`,
    'copy admin.yaml from the state directory of the controller and name it with --context or CULVERT_CONTEXT',
  );
}

async function parseContext(path: string, text: string): Promise<Context> {
  const parsed = contextSchema.safeParse(parseYaml(path, text));
  if (!parsed.success) {
    const problems = parsed.error.issues.map(
      (issue) => `${issue.path.map(String).join('.') || 'file'}: ${issue.message}`,
    );
    throw unusable(path, problems.join('; '));
  }
  const { controller, ca, caFile, token } = parsed.data;
  const caPem = ca ?? (await readCa(path, resolve(dirname(path), caFile ?? '')));
  if (!caPem.includes('-----BEGIN CERTIFICATE-----')) throw unusable(path, 'its CA is no PEM certificate');
  return { url: new URL(controller), caPem, token };
}

function parseYaml(path: string, text: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw unusable(path, 'it is no YAML', cause);
  }
}

async function readCa(contextPath: string, caPath: string): Promise<string> {
  const text = await readIfPresent(caPath);
  if (text === undefined) throw unusable(contextPath, `caFile names ${caPath}, which does not exist`);
  return text;
}

async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code === 'EACCES') {
      throw usageError(`${path} may not be read`, 'name your own context file with --context, or use sudo', cause);
    }
    throw unusable(path, `it cannot be read (${code ?? 'unknown error'})`, cause);
  }
}

function unusable(path: string, detail: string, cause?: unknown): CliError {
  const hint = 'it needs controller (https://…), ca or caFile, and token; admin.yaml of the controller is one';
  return usageError(`the context file ${path} cannot be used: ${detail}`, hint, cause);
}

import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../../shared/errors.js';
import { requireSuccess } from '../../lab/command.js';
import { componentsOf, usualMinor } from './components.js';
import { goEnvironment } from './go-command.js';
import { ProgramCache } from './program-cache.js';

const kubernetes = 'k8s.io/kubernetes';

/** What `go mod edit -json` prints, as far as it is read. */
type GoMod = {
  readonly Go: string;
  readonly Require: readonly { readonly Path: string; readonly Version: string; readonly Indirect?: boolean }[];
  readonly Replace: readonly { readonly Old: { readonly Path: string }; readonly New: { readonly Path: string } }[];
};

/**
 * Writes the module of a release of Kubernetes (`1.34.3`) next to those that are there, in place of an older patch of the same
 * minor version, and returns its folder. Go takes the hashes from its checksum database; they are pinned from then on. Throws
 * `COMMAND_FAILED` with what Go said, and `KUBERNETES_MINOR`.
 */
export async function writeMinor(version: string): Promise<string> {
  const [major, minor, patch] = version.split('.');
  if (major !== '1' || minor === undefined || patch === undefined) {
    const message = `${version} is no release of Kubernetes.`;
    throw new CulvertError({ code: 'KUBERNETES_MINOR', message, hint: 'such as 1.34.3' });
  }
  const usual = componentsOf(usualMinor).find(({ name }) => name === 'kubernetes')?.directory ?? '';
  const directory = path.join(path.dirname(usual), `${major}.${minor}`);
  const cache = new ProgramCache();
  const env = goEnvironment(cache);
  const go = (argv: readonly string[]): Promise<string> =>
    requireSuccess(['go', ...argv], { cwd: directory, env, timeoutMs: 900_000 });
  mkdirSync(directory, { recursive: true });
  for (const name of readdirSync(directory)) if (name.startsWith('go.')) rmSync(path.join(directory, name));
  for (const name of readdirSync(usual)) {
    if (name.endsWith('.go') && directory !== usual) cpSync(path.join(usual, name), path.join(directory, name));
  }
  const { GoMod: file } = JSON.parse(await go(['mod', 'download', '-json', `${kubernetes}@v${version}`])) as {
    GoMod: string;
  };
  const theirs = JSON.parse(await go(['mod', 'edit', '-json', file])) as GoMod;
  writeFileSync(path.join(directory, 'go.mod'), goMod(theirs, version, `v0.${minor}.${patch}`));
  await go(['mod', 'tidy']);
  return directory;
}

/** The requirements of the release. The modules of its own repository are those of the same release. */
function goMod({ Go: go, Require: required, Replace: replaced }: GoMod, version: string, own: string): string {
  const requirements = required.map(({ Path: name, Version: at, Indirect }) => {
    return `\t${name} ${at}${Indirect === true ? ' // indirect' : ''}`;
  });
  const staged = replaced.filter(({ New }) => New.Path.startsWith('./staging/')).map(({ Old }) => Old.Path);
  return [
    'module culvert.test/kubernetes',
    '',
    `go ${go}`,
    '',
    'require (',
    ...requirements,
    `\t${kubernetes} v${version}`,
    ')',
    '',
    'replace (',
    ...staged.map((name) => `\t${name} => ${name} ${own}`),
    ')',
    '',
  ].join('\n');
}

import { chmod, chown, realpath, stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { describeError } from '../../../shared/errors.js';
import { writePrivateFile } from '../../../shared/private-file.js';
import { rootHashes } from '../../../shared/pki/root-hash.js';
import type { Cli } from '../cli.js';
import { ApiClient } from '../client/api-client.js';
import { CliError, usageError } from '../exit-codes.js';
import { lazyYaml } from '../view/lazy-yaml.js';

/** `culvert context refresh`: keeps a context file valid through a rotation of the CA. */
export function addContextCommand(program: Command, cli: Cli): void {
  const context = program.command('context').description('Keep the context file up to date.');
  context
    .command('refresh')
    .description('Write the roots that the mesh trusts now into the context file. The roots in it must still be valid.')
    .addHelpText('after', '\nExample: culvert context refresh')
    .action(() => refresh(cli));
}

async function refresh(cli: Cli): Promise<void> {
  const old = await cli.context();
  const { path, caPath, url, token } = old;
  const { rootsPem } = await roots(new ApiClient({ context: old }));
  const count = rootHashes(rootsPem).length;
  // A CA of a proxy in between is no root of the mesh, and must not be replaced by one.
  await roots(new ApiClient({ context: { url, token, caPem: rootsPem } }));
  const text = caPath === null ? lazyYaml().stringify({ controller: url.origin, ca: rootsPem, token }) : rootsPem;
  await replaceFile(caPath ?? path, text);
  cli.io.print(`${caPath ?? path} has the ${count} ${count === 1 ? 'root' : 'roots'} that the mesh trusts`);
}

/** Only over TLS that the roots of the client verify. */
function roots(client: ApiClient): Promise<{ readonly rootsPem: string }> {
  return client.call<{ readonly rootsPem: string }>({ method: 'GET', path: ['ca'] });
}

/** Owner and rights stay, also when root does it for another user. */
async function replaceFile(path: string, text: string): Promise<void> {
  try {
    const file = await realpath(path);
    const found = await stat(file);
    if (!found.isFile()) throw usageError(`${path} is no file`, 'name a file with --context');
    await writePrivateFile(file, text);
    if (process.getuid?.() === 0) await chown(file, found.uid, found.gid);
    await chmod(file, found.mode & 0o777);
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    throw new CliError({
      exit: 'failed',
      code: 'OUTPUT_WRITE',
      message: `cannot write ${path}: ${describeError(cause)}`,
      hint: 'run it as the owner of the file, who can also write into its directory',
      cause,
    });
  }
}

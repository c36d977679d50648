import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { requireSuccess } from '../../lab/command.js';

/**
 * What a build with libseccomp needs in its environment. Its headers and its static library are those of the machine; where
 * they are missing, Debian's package is unpacked, not installed, into `directory`. Throws `COMMAND_FAILED`.
 */
export async function seccompEnvironment(directory: string): Promise<Record<string, string>> {
  mkdirSync(directory, { recursive: true });
  const root = findLibrary('/') === null ? await unpack(directory) : '/';
  const library = findLibrary(root);
  if (library === null) throw new Error(`there is no libseccomp.a below ${root}`);
  const flags = { cflags: `-I${path.join(root, 'usr/include')}`, libs: `-L${library} -lseccomp` };
  const script = path.join(directory, 'pkg-config');
  // Go asks it for the flags of the library; only in Debian's own place they are right.
  const text = `#!/bin/sh\ncase "$*" in *--cflags*) echo '${flags.cflags}';; *--libs*) echo '${flags.libs}';; esac\n`;
  writeFileSync(script, text, { mode: 0o755 });
  return { CGO_ENABLED: '1', PKG_CONFIG: script };
}

/** The folder of the static library below a root that also has the headers; null when one of the two is missing. */
function findLibrary(root: string): string | null {
  const libraries = path.join(root, 'usr/lib');
  if (!existsSync(path.join(root, 'usr/include/seccomp.h')) || !existsSync(libraries)) return null;
  const folders = ['.', ...readdirSync(libraries).filter((name) => name.endsWith('-linux-gnu'))];
  const found = folders.find((name) => existsSync(path.join(libraries, name, 'libseccomp.a')));
  return found === undefined ? null : path.join(libraries, found);
}

async function unpack(directory: string): Promise<string> {
  const root = path.join(directory, 'root');
  const options = ['-q', '-o', 'APT::Sandbox::User=root'];
  await requireSuccess(['apt-get', ...options, 'download', 'libseccomp-dev'], { cwd: directory, timeoutMs: 120_000 });
  const [archive] = readdirSync(directory).filter((name) => /^libseccomp-dev_.*\.deb$/.test(name));
  await requireSuccess(['dpkg-deb', '-x', path.join(directory, archive ?? ''), root]);
  return root;
}

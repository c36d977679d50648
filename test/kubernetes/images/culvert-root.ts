import { readdirSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { findCommand, requireProgram } from '../../lab/requirements.js';
import { type ImageRoot, xtablesDirectory } from './image-root.js';

/** The output folder of the build. */
const builtDirectory = path.resolve(import.meta.dirname, '../../..');

/** The user of the image: that of the controller, and of everyone who runs `culvert` in it. A pod of an agent says root. */
export const imageUser = 65_532;

const users = [
  ['root', 0],
  ['culvert-agent', 64_001],
  ['culvert', imageUser],
  ['nobody', 65_534],
] as const;

/** What the programs start, but for iptables: those of `declared-programs.ts` that have a use for agent or controller. */
const commands = ['cat', 'ip', 'nats-server', 'nsenter', 'setpriv', 'sh', 'unshare'] as const;

const programs = ['culvert', 'culvert-agent', 'culvert-controller'] as const;
const nativeFiles = [
  ...['culvert.node', 'culvert-helper', 'culvert-cni', 'culvert-cni-install'].map((name) => `agent/native/${name}`),
  'shared/native/file-lock.node',
];

/** Node, and what is in every image with it. Throws `REQUIREMENT_MISSING`. */
export async function addNode(root: ImageRoot): Promise<void> {
  for (const name of ['etc', 'tmp', 'run', 'proc', 'sys', 'dev', 'usr/bin', 'usr/sbin', 'var/lib'])
    root.makeDirectory(name);
  for (const name of ['bin', 'sbin']) root.link(`/${name}`, 'usr/bin');
  root.write('/etc/passwd', users.map(([name, id]) => `${name}:x:${id}:${id}::/:/bin/sh\n`).join(''));
  root.write('/etc/group', users.map(([name, id]) => `${name}:x:${id}:\n`).join(''));
  await root.addCommands(['cat', 'sh']);
  await root.addPrograms({ [realpathSync(process.execPath)]: '/usr/bin/node' });
}

/**
 * All that the container image of the product has on top of that: the programs as `npm run build` has made them, those in C, and
 * what they start. This is the one list: the image of deploy/container and that of the test cluster are made by it.
 */
export async function addCulvert(root: ImageRoot): Promise<void> {
  await root.addCommands(commands);
  await addIptables(root);
  root.addFile(path.join(builtDirectory, 'programs'), '/culvert/dist/programs');
  const files = nativeFiles.map((name) => [path.join(builtDirectory, name), path.join('/culvert/dist', name)] as const);
  await root.addPrograms(Object.fromEntries(files));
  root.addFile(path.join(builtDirectory, '../package.json'), '/culvert/package.json');
  for (const name of programs) {
    root.write(`/usr/bin/${name}`, `#!/bin/sh\nexec node /culvert/dist/programs/${name}.js "$@"\n`, 0o755);
  }
}

/** Both back ends: the agent takes the one that the host uses. Each is one program under many names. */
async function addIptables(root: ImageRoot): Promise<void> {
  for (const kind of ['nft', 'legacy']) {
    const name = `iptables-${kind}`;
    requireProgram(name);
    const multi = realpathSync(findCommand(name) ?? name);
    await root.addPrograms({ [multi]: `/usr/bin/${path.basename(multi)}` });
    for (const family of ['iptables', 'ip6tables']) {
      for (const part of ['', '-save', '-restore']) {
        root.link(`/usr/bin/${family}-${kind}${part}`, path.basename(multi));
        if (kind === 'nft') root.link(`/usr/bin/${family}${part}`, path.basename(multi));
      }
    }
  }
  const directory = xtablesDirectory();
  const extensions = readdirSync(directory).filter((name) => name.endsWith('.so'));
  const files = extensions.map((name) => path.join(directory, name));
  await root.addPrograms(Object.fromEntries(files.map((file) => [file, file])));
}

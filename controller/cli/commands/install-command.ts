import type { Command } from 'commander';
import { isTrustDomain } from '../../../shared/identity.js';
import { version } from '../../../shared/version.js';
import type { InstallOptions, Storage } from '../../install/install-options.js';
import { installObjects } from '../../install/install-objects.js';
import type { Cli } from '../cli.js';
import { usageError } from '../exit-codes.js';
import { lazyYaml } from '../view/lazy-yaml.js';

type Flags = {
  readonly namespace: string;
  readonly image: string;
  readonly trustDomain: string;
  readonly hostProbes: string;
  readonly storage: string;
  readonly storageSize: string;
  readonly storageClass?: string;
  readonly nodeSelector: readonly string[];
  readonly cni: boolean;
  readonly cniConfigDir: string;
  readonly cniBinDir: string;
};

/** `culvert install`: prints what makes a cluster a mesh. It talks to no cluster: kubectl applies what it prints. */
export function addInstallCommand(program: Command, cli: Cli): void {
  program
    .command('install')
    .description('Print the objects that install Culvert in a Kubernetes cluster, for kubectl apply -f -.')
    .option('--namespace <namespace>', 'where controller and agents run', 'culvert-system')
    .option('--image <image>', 'container image with the programs of this version', `culvert:${version}`)
    .option('--trust-domain <domain>', 'of every identity; fixed at the first start', 'culvert.local')
    .option(
      '--host-probes <programs>',
      'who on a node may probe its pods without a rule: uid:0 is kubelet and all of root there; cgroup:/system.slice/kubelet.service is narrower, where kubelet is that unit',
      'uid:0',
    )
    .option(
      '--storage <kind>',
      "where the controller's state is: claim (a volume of the cluster), host-path:/PATH (of the node that --node-selector names), or empty-dir (lost with the pod, for a trial)",
      'claim',
    )
    .option('--storage-size <quantity>', 'of the claim', '2Gi')
    .option('--storage-class <class>', "of the claim (default: the cluster's)")
    .option('--node-selector <label=value...>', 'nodes that the controller may run on', [])
    .option('--cni-config-dir <path>', 'where the nodes have the configuration of CNI', '/etc/cni/net.d')
    .option('--cni-bin-dir <path>', 'where the nodes have the CNI plugins', '/opt/cni/bin')
    .option('--no-cni', 'without the CNI plugin: a new pod is outside the mesh for up to half a second')
    .addHelpText('after', '\nExample: culvert install | kubectl apply -f -')
    .addHelpText(
      'after',
      'Example: culvert install --storage host-path:/var/lib/culvert --node-selector kubernetes.io/hostname=n1',
    )
    .action((flags: Flags) => {
      const { stringify } = lazyYaml();
      const objects = installObjects(optionsOf(flags));
      cli.io.print(
        objects
          .map((object) => stringify(object, { lineWidth: 0 }))
          .join('---\n')
          .trimEnd(),
      );
    });
}

const dnsLabel = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Throws a usage error. */
function optionsOf(flags: Flags): InstallOptions {
  const { namespace, image, trustDomain, hostProbes } = flags;
  if (!dnsLabel.test(namespace)) {
    throw usageError(`--namespace: "${namespace}" is no name of a namespace`, 'use lower-case letters, digits and "-"');
  }
  if (!/^[\w./:@-]+$/.test(image))
    throw usageError(`--image: "${image}" is no image`, 'write it as REGISTRY/culvert:VERSION');
  if (!isTrustDomain(trustDomain)) {
    throw usageError(`--trust-domain: "${trustDomain}" is none`, 'use a name such as mesh.example.net');
  }
  if (!/^(uid|cgroup|port):[\w@:.,/-]+$/.test(hostProbes)) {
    throw usageError(
      `--host-probes: "${hostProbes}" names no program`,
      'write uid:0 or cgroup:/system.slice/kubelet.service',
    );
  }
  return {
    hostProbes,
    namespace,
    image,
    trustDomain,
    storage: storageOf(flags),
    cni: cniOf(flags),
    nodeSelector: Object.fromEntries(flags.nodeSelector.map(labelOf)),
  };
}

function cniOf({ cni, cniConfigDir, cniBinDir }: Flags): InstallOptions['cni'] {
  const asked = { '--cni-config-dir': cniConfigDir, '--cni-bin-dir': cniBinDir };
  for (const [option, path] of Object.entries(asked)) {
    if (/^(\/[\w.-]+)+$/.test(path) && !path.split('/').some((part) => part === '.' || part === '..')) continue;
    throw usageError(`${option}: "${path}" is no directory of a node`, 'write an absolute path, as /etc/cni/net.d');
  }
  return cni ? { configDirectory: cniConfigDir, binDirectory: cniBinDir } : null;
}

function storageOf({ storage, storageSize: size, storageClass, nodeSelector }: Flags): Storage {
  if (storage === 'claim') {
    if (!/^\d+(\.\d+)?([KMGTPE]i?)?$/.test(size)) {
      throw usageError(`--storage-size: "${size}" is no quantity`, 'write it as 2Gi');
    }
    return { kind: 'claim', size, className: storageClass ?? null };
  }
  if (storageClass !== undefined) throw usageError('--storage-class needs --storage claim', 'leave one of them out');
  if (storage === 'empty-dir') return { kind: 'empty-dir' };
  const [, path] = /^host-path:(\/[\w./-]+)$/.exec(storage) ?? [];
  if (path === undefined || path.split('/').includes('..')) {
    throw usageError(`--storage: "${storage}" is none`, 'use claim, empty-dir, or host-path: and an absolute path');
  }
  if (nodeSelector.length === 0) {
    throw usageError(
      '--storage host-path needs the node that has it',
      'add --node-selector kubernetes.io/hostname=NODE, or the controller finds its state on one node only',
    );
  }
  return { kind: 'host-path', path };
}

function labelOf(text: string): readonly [string, string] {
  const [, key, value] = /^([A-Za-z0-9][\w./-]*)=([\w.-]*)$/.exec(text) ?? [];
  if (key === undefined || value === undefined) {
    throw usageError(`--node-selector: "${text}" is no label`, 'write it as kubernetes.io/hostname=n1');
  }
  return [key, value];
}

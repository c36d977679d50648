import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../../shared/errors.js';

/** Versions and hashes of everything that is built: a folder with `go.mod` and `go.sum` for each component. */
const modulesDirectory = path.resolve(import.meta.dirname, '../../../../test/kubernetes/modules');

/** A part of a cluster, built from one Go module. */
export type Component = {
  readonly name: ComponentName;
  /** The folder with its `go.mod`. */
  readonly directory: string;
  /** The module that gives it its version; absent for one of our own. */
  readonly module?: string;
  /** What is built, as `go build` names it. Each package is a program of the same name. */
  readonly packages: readonly string[];
  /** Name of the program, when it is not that of its package. */
  readonly program?: string;
  /** Other names of the program, which it asks for its own name. */
  readonly links?: readonly string[];
  /** Variables that the linker sets, for the version that it has (`v1.37.2`). */
  readonly variables?: (version: string) => Readonly<Record<string, string>>;
  /** Contains C, and libseccomp. */
  readonly needsSeccomp?: true;
};

export type ComponentName = 'pause' | 'cni' | 'runc' | 'etcd' | 'containerd' | 'coredns' | 'kubernetes' | 'helm';

/** The minor version that is tested unless another one is asked for. */
export const usualMinor = '1.37';

const containerd = 'github.com/containerd/containerd/v2';
const plugins = 'github.com/containernetworking/plugins';
const helm = 'helm.sh/helm/v4';
const etcd = 'go.etcd.io/etcd/server/v3';

/** Everything that a cluster of a minor version (`1.37`) is made of. Throws `KUBERNETES_MINOR`. */
export function componentsOf(minor: string): Component[] {
  const kubernetes = path.join(modulesDirectory, 'kubernetes', minor);
  if (!existsSync(kubernetes)) {
    throw new CulvertError({
      code: 'KUBERNETES_MINOR',
      message: `There is no Kubernetes ${minor} here, but ${readdirSync(path.dirname(kubernetes)).join(', ')}.`,
      hint: 'test/kubernetes/modules/README.md says how to add one',
    });
  }
  const components: Located[] = [
    { name: 'pause', packages: ['.'], program: 'pause' },
    {
      name: 'cni',
      module: plugins,
      packages: ['main/bridge', 'main/loopback', 'ipam/host-local', 'meta/portmap'].map(
        (name) => `${plugins}/plugins/${name}`,
      ),
    },
    {
      name: 'runc',
      module: 'github.com/opencontainers/runc',
      packages: ['github.com/opencontainers/runc'],
      needsSeccomp: true,
    },
    { name: 'etcd', module: etcd, packages: [etcd], program: 'etcd' },
    {
      name: 'containerd',
      module: containerd,
      packages: ['containerd', 'containerd-shim-runc-v2', 'ctr'].map((name) => `${containerd}/cmd/${name}`),
      variables: (version) => ({ [`${containerd}/version.Version`]: version }),
    },
    {
      name: 'kubernetes',
      directory: kubernetes,
      module: 'k8s.io/kubernetes',
      packages: ['.'],
      program: 'kubernetes',
      links: ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy', 'kubectl'],
      variables: kubernetesVersion,
    },
    { name: 'coredns', module: 'github.com/coredns/coredns', packages: ['.'], program: 'coredns' },
    // No part of a cluster: the tests install the chart with it.
    { name: 'helm', module: helm, packages: [`${helm}/cmd/helm`], program: 'helm' },
  ];
  return components.map((each) => ({ directory: path.join(modulesDirectory, each.name), ...each }));
}

/** Without a folder: it has the component's name. */
type Located = Omit<Component, 'directory'> & { readonly directory?: string };

function kubernetesVersion(version: string): Readonly<Record<string, string>> {
  const [major = '', minor = ''] = version.slice(1).split('.');
  const at = 'k8s.io/component-base/version';
  return { [`${at}.gitVersion`]: version, [`${at}.gitMajor`]: major, [`${at}.gitMinor`]: minor };
}

/** `v1.37.2`, as `go.mod` has it; empty for a component of our own. */
export function versionOf({ directory, module }: Component): string {
  if (module === undefined) return '';
  const text = readFileSync(path.join(directory, 'go.mod'), 'utf8');
  const found = new RegExp(`^(?:require )?\\s*${module.replaceAll('.', '\\.')} (v\\S+)`, 'm').exec(text)?.[1];
  if (found === undefined) throw new Error(`${directory}/go.mod does not require ${module}`);
  return found;
}

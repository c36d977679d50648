import type { Kubectl } from './kubectl.js';

type Config = {
  readonly 'current-context'?: string;
  readonly contexts?: readonly { readonly name: string }[] | null;
  readonly clusters?: readonly { readonly cluster: { readonly server?: string } }[] | null;
};

/**
 * Which cluster commands of this kubectl change, for people: `context NAME, https://HOST:PORT`. It asks the API server, so that a
 * cluster that does not answer is known before anything is done. Errors: `KUBECTL`.
 */
export async function clusterText(
  kubectl: Kubectl,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  await kubectl.succeed(['version', '-o', 'json', '--request-timeout=30s']);
  const asked = ['config', 'view', '--minify', '-o', 'json'];
  const { code, out } = await kubectl.run(asked);
  const { contexts, clusters, ...config } = code === 0 && out !== '' ? kubectl.parsed<Config>(out, asked) : {};
  const server = clusters?.[0]?.cluster.server;
  if (server !== undefined) {
    return `context ${contexts?.[0]?.name ?? config['current-context'] ?? 'without a name'}, ${server}`;
  }
  const host = env['KUBERNETES_SERVICE_HOST'];
  const own = host === undefined ? 'its default server' : `the cluster of this pod, ${host}`;
  return `that of kubectl without a context: ${own}`;
}

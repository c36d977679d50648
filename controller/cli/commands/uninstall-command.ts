import type { Command } from 'commander';
import { parseDuration } from '../../../shared/config/units.js';
import { version } from '../../../shared/version.js';
import { defaultValues } from '../../install/install-options.js';
import { valuePatterns } from '../../install/install-values.js';
import type { Cli } from '../cli.js';
import { Kubectl } from '../client/kubectl.js';
import { clusterText } from '../client/which-cluster.js';
import { uninstall } from '../client/uninstall.js';
import { usageError } from '../exit-codes.js';
import { printable } from '../view/table.js';

type Flags = {
  readonly namespace: string;
  readonly image?: string;
  readonly imagePullSecret: readonly string[];
  readonly cniConfigDir: string;
  readonly cniBinDir: string;
  readonly kubectl: string;
  readonly kubeContext?: string;
  readonly timeout: string;
  readonly yes: boolean;
};

const { namespace, cni } = defaultValues(version);

/** `culvert uninstall`: takes Culvert out of a cluster with the user's kubectl, and proves that nothing is left. */
export function addUninstallCommand(program: Command, cli: Cli): void {
  program
    .command('uninstall')
    .description(
      'Take Culvert out of a Kubernetes cluster, with kubectl: pods out of the mesh, agents off the nodes, rules, CNI plugin and state off the nodes, then all objects. The CA goes with them. It can be repeated, also after objects were deleted in another order.',
    )
    .option('--namespace <namespace>', 'of controller and agents', namespace)
    .option('--yes', 'do it; without this option it only says what it would do', false)
    .option(
      '--image <image>',
      "image that cleans the nodes, where the DaemonSet of the agents is gone (default: the agents')",
    )
    .option('--image-pull-secret <name...>', 'with --image: secrets of the namespace with which nodes fetch it', [])
    .option('--cni-config-dir <path>', 'where the nodes have the configuration of CNI', cni.configDirectory)
    .option('--cni-bin-dir <path>', 'where the nodes have the CNI plugins', cni.binDirectory)
    .option('--kubectl <program>', 'kubectl of the cluster', 'kubectl')
    .option('--kube-context <context>', "context of kubectl (default: the current one's)")
    .option('--timeout <duration>', 'longest time of each step', '3m')
    .addHelpText('after', '\nExample: culvert uninstall --yes')
    .action(async (flags: Flags) => {
      if (!new RegExp(valuePatterns.namespace).test(flags.namespace)) {
        throw usageError(`--namespace: "${flags.namespace}" is no name of a namespace`, 'name that of the controller');
      }
      const timeoutMs = parseDuration(flags.timeout);
      if (timeoutMs === undefined || timeoutMs < 1000) {
        throw usageError(`--timeout: "${flags.timeout}" is no duration of a second or more`, 'write it as 3m');
      }
      const { env, nowMs, print } = cli.io;
      const kubectl = new Kubectl({
        program: flags.kubectl,
        context: flags.kubeContext ?? null,
        hint: 'correct that and run the command again: it goes on with what is left',
        env,
      });
      const which = printable(
        await clusterText(kubectl.withHint('name your cluster: KUBECONFIG, or --kube-context'), env),
      );
      if (!flags.yes) return print(plan(flags.namespace, which));
      print(`The cluster is ${which}.`);
      await uninstall({
        kubectl,
        namespace: flags.namespace,
        image: flags.image ?? null,
        imagePullSecrets: flags.imagePullSecret.map((name) => ({ name })),
        cni: { configDirectory: flags.cniConfigDir, binDirectory: flags.cniBinDir },
        timeoutMs,
        nowMs,
        done: (line) => print(`✔ ${printable(line)}`),
      });
    });
}

function plan(own: string, cluster: string): string {
  return [
    `Nothing was done. The cluster is ${cluster}. With --yes this takes out of it, in this order:`,
    '  1. the webhook by which the API server asks about rules',
    '  2. the label culvert.dev/mesh=enabled from namespaces and pods, so that all traffic passes unprotected',
    `  3. the agents (DaemonSet culvert-agent in ${own})`,
    '  4. rules, CNI plugin and state of agents off every node',
    `  5. all objects of Culvert, with the namespace ${own} where Culvert has made it, and with the CA of the mesh`,
  ].join('\n');
}

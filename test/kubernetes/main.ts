import { Command, InvalidArgumentError, Option } from 'commander';
import process from 'node:process';
import { describeError } from '../../shared/errors.js';
import { DeclaredPath } from '../lab/declared-path.js';
import type { ProxyMode } from './cluster/cluster-plan.js';
import { usualRepository, writeTestImages } from './images/test-images.js';
import { buildPrograms } from './programs/build-programs.js';
import { usualMinor } from './programs/components.js';
import { userPrograms } from './user-programs.js';
import { runKubernetes } from './run-kubernetes.js';
import { writeMinor } from './programs/write-minor.js';

/**
 * `npm run test:kubernetes`: builds a Kubernetes, starts it in namespaces of this machine, runs the suite on it, and takes
 * everything down. With `KUBECONFIG` the suite runs on the user's cluster.
 */
const program = new Command('test:kubernetes').description('run the tests that need a Kubernetes');
const minor = new Option('--kubernetes <minor>', 'which Kubernetes').default(usualMinor);
const jobs = new Option('--jobs <n>', 'how many packages Go compiles at once').argParser(positive);
const log = (line: string): void => console.log(line);

program
  .command('run', { isDefault: true })
  .description('build what is missing, start a cluster, run the suite, take everything down')
  .addOption(minor)
  .addOption(jobs)
  .addOption(new Option('--proxy <mode>', 'how kube-proxy works').choices(['nftables', 'iptables']).default('nftables'))
  .option('--ipv4-only', 'one family of addresses in place of two')
  .option('--filter <regular expression>', 'only test files whose path matches')
  .option('--gate', 'only the test files that the gate runs after npm test')
  .option('--hold', 'in place of the suite, wait for Ctrl-C, for a look around')
  .option('--logs <folder>', 'keep the logs of the nodes and of the pods that are left at the end')
  .option('--soak', 'a thousand pod starts in place of forty')
  .option('--write-figures', 'write what the tests measure into deploy/docs/kubernetes.md')
  .option('--images <repository>', 'where the cluster of KUBECONFIG has the images from', usualRepository)
  .action(async (options: RunFlags) => {
    const { kubernetes, proxy, ipv4Only = false, filter, hold = false, gate = false, images, jobs: count } = options;
    const { soak = false, writeFigures = false, logs } = options;
    process.exitCode = (await runKubernetes({
      minor: kubernetes,
      proxyMode: proxy,
      isDual: !ipv4Only,
      filter: filter === undefined ? null : new RegExp(filter),
      isGate: gate,
      isHeld: hold,
      logs: logs ?? null,
      isSoak: soak,
      writesFigures: writeFigures,
      images,
      ...(count === undefined ? {} : { jobs: count }),
    }))
      ? 0
      : 1;
  });
type RunFlags = {
  readonly kubernetes: string;
  readonly jobs?: number;
  readonly proxy: ProxyMode;
  readonly ipv4Only?: boolean;
  readonly filter?: string;
  readonly gate?: boolean;
  readonly hold?: boolean;
  readonly logs?: string;
  readonly soak?: boolean;
  readonly writeFigures?: boolean;
  readonly images: string;
};

program
  .command('build')
  .description('only build what is missing; needs no root')
  .addOption(minor)
  .addOption(jobs)
  .action(async ({ kubernetes, jobs: count }: { kubernetes: string; jobs?: number }) => {
    using declared = DeclaredPath.enter('kubernetes');
    declared.add(userPrograms);
    const { directories } = await buildPrograms({
      minor: kubernetes,
      log,
      ...(count === undefined ? {} : { jobs: count }),
    });
    for (const directory of Object.values(directories)) log(directory);
  });

program
  .command('images')
  .description(
    'write the images that a cluster of your own needs into an archive, for "ctr images import" and the like',
  )
  .argument('<file>')
  .option('--images <repository>', 'first part of their names', usualRepository)
  .action(async (file: string, { images }: { images: string }) => {
    using _ = DeclaredPath.enter('kubernetes');
    await writeTestImages({ file, repository: images, programs: null });
  });

program
  .command('write-minor')
  .description('write the module of another version of Kubernetes, with its hashes')
  .argument('<version>', 'such as 1.34.3')
  .action(async (version: string) => {
    using declared = DeclaredPath.enter('kubernetes');
    declared.add(userPrograms);
    log(await writeMinor(version));
  });

function positive(text: string): number {
  if (/^[1-9]\d?$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Write a number from 1 to 99.');
}

try {
  await program.parseAsync();
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
}

import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { secondsOf } from './file-seconds.js';

export type TestSuite = {
  /** Below test/ and dist/test/. */
  readonly directory: string;
  /** Of the directory's files; all when absent. */
  readonly files?: RegExp;
  /** Files at a time: enough to give two cores work while files wait. Up to three suites run at once. */
  readonly concurrency: number;
  /** For one file, on an idle machine. */
  readonly timeoutMs: number;
  readonly needsLab: boolean;
  /** Runs only when it is named: a container may not let a second init boot in it. */
  readonly isOptional?: boolean;
  /** How many files may share a process, and how long they may take together, see `groupFiles`; 1 when absent. */
  readonly filesPerProcess?: number;
  readonly secondsPerProcess?: number;
  /** Data-plane threads of every agent whose test does not say otherwise. */
  readonly agentWorkers?: number;
  /** Files that end alike with any Node. The gate's second Node leaves them out. */
  readonly sameWithAnyNode?: readonly RegExp[];
};

/** With `whole` the gate runs in the bare machine, within one file. */
const isBareMachineWhole = process.env['CULVERT_BARE_MACHINE'] === 'whole';

const endToEnd = {
  directory: 'e2e',
  concurrency: 3,
  filesPerProcess: 8,
  secondsPerProcess: 180,
  timeoutMs: isBareMachineWhole ? 9_000_000 : 900_000,
  needsLab: true,
};
/** Files about how a connection is carried and judged, where it could matter that other connections are in another thread. */
const dataPlaneFiles = /bulk|half-close|paths|hostile/;

/**
 * Property tests of pure rooms (`pureRooms` of test/house/house-rules.ts), which use nothing of Node: what differs from run to
 * run is the worlds, not the Node. The tables of the same rooms are cheap and run with both. And what is about our own sources
 * and documents.
 */
const sameUnitsWithAnyNode = [
  /unit\/controller\/analysis\/(?:flows|lint|pairs)\./,
  /unit\/controller\/compile\/(?:ambiguous-rules|common-ports|growth|overlap-index|segment-nesting)\./,
  /unit\/shared\/policy\/(?:cluster-policy-semantics|dry-run|key-index|ordered-tests|properties|revisions)\./,
  /unit\/(?:bench|docs|house)\//,
];

/**
 * About other programs (kernel rules, compilers, linter, the lab's network, a NATS of others), or about what our programs decide,
 * print and keep: whom a rule leads to, what an operator reads, what a cluster's objects become.
 * What they need of Node, other files try with both: sockets, TLS, HTTP, child processes and threads in `agent/dataplane/`
 * (the road of connections in `paths`, `order`, `workers`, `outliers`, `policy`), `agent/control/`, `agent/native/` (its compiler
 * aside), `shared/`, `attacks/held-servers`, `attacks/held-refusals` and `controller/{api,join,ca/,nats/,event-loop}`, the API of
 * a cluster in `controller/kubernetes/{reflector,kubernetes-source,admission,lease}`, and the programs themselves, with the
 * kernel's locks, in `agent-process`, `controller-process`, `hostile-surroundings` and `package`.
 */
const sameWithAnyNode = [
  /agent\/capture\/(?:back-ends|bound-namespaces|changed-while-loading|changes|guard|host|lifecycle)\./,
  /agent\/capture\/(?:own-sockets|rule-ownership|untracked|workload)\./,
  /agent\/check-host\./,
  /agent\/control\/(?:cni-capture|pod-sandboxes|shared-namespace)\./,
  /agent\/native\/build\./,
  /agent\/dataplane\/(?:balancing|nearest|routes|rule-lifecycle|flow\/authorized)\./,
  /attacks\/(?:bound-to-device|compromised-node|consumer-names|flooded-nats|held-nats|invented-flows)\./,
  /controller\/(?:atomic-apply|audit-log|audit-log-kill|ca|disk-full|external-nats|history|inventory-kill|kernel-lock)\./,
  /controller\/(?:check-before|delete|node-removal|nodes-without-agent)\./,
  /controller\/(?:recovery|scope|sealed-keys|stand-by|uninstall|users|why)\./,
  /controller\/cli\/(?:commands|everyday|history|loaded-libraries|offline|rule-tools|secret-output)\./,
  /controller\/flows\/flow-history\./,
  /controller\/kubernetes\/(?:account-join|cluster-events|cluster-rules|costly-objects|installation)\./,
  /controller\/kubernetes\/(?:ready-probe|replicas|startup-taint|state-directory)\./,
  /integration\/(?:deploy|docs|fuzz|house|kubernetes)\//,
  /lab\/(?:applications|command-line|declared-path|network|packet-capture|teardown)\./,
  /shared\/policy\/match-field-rows\./,
];

/**
 * In the order in which they run: unit tests seldom wait, so they come last, when there is less that could use what waiting ones
 * leave idle. Integration runs side by side with the others, and so does a second Node: see `lanesOf`.
 */
export const suites = {
  integration: {
    directory: 'integration',
    concurrency: 3,
    filesPerProcess: 12,
    secondsPerProcess: 300,
    timeoutMs: 300_000,
    needsLab: true,
    sameWithAnyNode,
  },
  e2e: { ...endToEnd, agentWorkers: 2 },
  'e2e-one-worker': { ...endToEnd, files: dataPlaneFiles, agentWorkers: 1, secondsPerProcess: 80 },
  contract: { directory: 'contract', concurrency: 2, timeoutMs: 180_000, needsLab: true },
  unit: {
    directory: 'unit',
    concurrency: 2,
    timeoutMs: 60_000,
    needsLab: false,
    filesPerProcess: 60,
    sameWithAnyNode: sameUnitsWithAnyNode,
  },
  /** On a cluster, which `npm run test:kubernetes` makes. */
  kubernetes: {
    directory: 'kubernetes/suite',
    concurrency: 1,
    timeoutMs: 600_000,
    needsLab: true,
    isOptional: true,
  },
  systemd: { directory: 'systemd', concurrency: 1, timeoutMs: 900_000, needsLab: true, isOptional: true },
} as const satisfies Readonly<Record<string, TestSuite>>;
export type SuiteName = keyof typeof suites;

/** The suites that need no mesh, which the gate also runs on a second Node, but for what ends alike there. */
export const meshless: readonly SuiteName[] = ['integration', 'contract', 'unit'];

export type TestFileSearch = {
  readonly suite: SuiteName;
  /** The folders `test` of the sources and of the build. */
  readonly sourceDirectory: string;
  readonly builtDirectory: string;
  /** Of the path below `builtDirectory`. */
  readonly filter: RegExp | null;
  /** Without those that end alike with any Node. */
  readonly isSecondNode?: boolean;
};

/**
 * The compiled test files of a suite, those that take longest first, then by name. A file whose source is gone does not count:
 * the compiler leaves the output of a test that was moved or deleted in place.
 */
export function findTestFiles(search: TestFileSearch): string[] {
  const { suite, sourceDirectory, builtDirectory, filter, isSecondNode = false } = search;
  const { directory, files, sameWithAnyNode: same = [] }: TestSuite = suites[suite];
  const suiteDirectory = path.join(builtDirectory, directory);
  if (!existsSync(suiteDirectory)) return [];
  return readdirSync(suiteDirectory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js') && (files === undefined || files.test(file)))
    .map((file) => path.join(directory, file))
    .filter((file) => existsSync(path.join(sourceDirectory, file.replace(/\.js$/, '.ts'))))
    .filter((file) => filter === null || filter.test(file))
    .filter((file) => !isSecondNode || !same.some((each) => each.test(file)))
    .map((file) => path.join(builtDirectory, file))
    .sort((a, b) => secondsOf(b, builtDirectory) - secondsOf(a, builtDirectory) || (a < b ? -1 : 1));
}

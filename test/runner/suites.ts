import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';

export type TestSuite = {
  /** Below test/ and dist/test/. */
  readonly directory: string;
  /** Files that take longest (`--times` shows them). They start first, so that none runs alone at the end. */
  readonly slowest?: RegExp;
  /** Of the directory's files; all when absent. */
  readonly files?: RegExp;
  /** Files at a time: enough to give two cores work while files wait. Up to four suites run at once. */
  readonly concurrency: number;
  /** For one file, on an idle machine. */
  readonly timeoutMs: number;
  readonly needsLab: boolean;
  /** Runs only when it is named: a container may not let a second init boot in it. */
  readonly isOptional?: boolean;
  /** How many files may share a process, see `groupFiles`; 1 when absent. The slowest have one of their own. */
  readonly filesPerProcess?: number;
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
  timeoutMs: isBareMachineWhole ? 9_000_000 : 900_000,
  needsLab: true,
  slowest:
    /bare-machine|readme|ca-rotation|late-accept|bulk-and-many|capture-removal|join|cli\.|agent-replaced|flow-fresh|fail-mode-open|rules-under|documents|why-agrees/,
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
 * About other programs (kernel rules, compilers, linter, the lab's network), or about what our programs decide, print and keep.
 * What they need of Node, other files try with both: sockets, TLS, HTTP, child processes and threads in `agent/dataplane/`,
 * `agent/control/`, `agent/native/`, `shared/`, `attacks/held-servers` and `controller/{api,join,ca/,nats/,event-loop}`, and
 * the programs themselves in `agent-process`, `controller-process` and `package`.
 */
const sameWithAnyNode = [
  /agent\/capture\/(?:back-ends|bound-namespaces|changed-while-loading|changes|guard|host|lifecycle)\./,
  /agent\/capture\/(?:own-sockets|rule-ownership|untracked|workload)\./,
  /agent\/control\/shared-namespace\./,
  /agent\/dataplane\/(?:rule-lifecycle|flow\/authorized)\./,
  /attacks\/(?:compromised-node|consumer-names|flooded-nats|invented-flows)\./,
  /controller\/(?:atomic-apply|audit-log|audit-log-kill|ca|disk-full|history|inventory-kill)\./,
  /controller\/(?:node-removal|nodes-without-agent)\./,
  /controller\/(?:recovery|scope|sealed-keys|users|why)\./,
  /controller\/cli\/(?:everyday|history|offline|rule-tools|secret-output)\./,
  /controller\/flows\/flow-history\./,
  /integration\/(?:deploy|docs|fuzz|house|kubernetes)\//,
  /lab\/(?:applications|command-line|declared-path|network|packet-capture)\./,
  /shared\/policy\/match-field-rows\./,
];

/**
 * In the order in which they run. Suites of a mesh and suites without one run side by side, and so does a second Node: see
 * `lanesOf`.
 */
export const suites = {
  unit: {
    directory: 'unit',
    concurrency: 2,
    timeoutMs: 60_000,
    needsLab: false,
    filesPerProcess: 60,
    sameWithAnyNode: sameUnitsWithAnyNode,
  },
  contract: { directory: 'contract', concurrency: 2, timeoutMs: 180_000, needsLab: true },
  integration: {
    directory: 'integration',
    concurrency: 3,
    filesPerProcess: 12,
    timeoutMs: 300_000,
    needsLab: true,
    slowest:
      /(?:controller|agent)-process|ca\/import|soak|silent-connections|everyday|store-watch|package|workers|unnoticed|keepalive|authorized|compiler-and-linter|order|semantics|history/,
    sameWithAnyNode,
  },
  e2e: { ...endToEnd, agentWorkers: 2 },
  'e2e-one-worker': { ...endToEnd, files: dataPlaneFiles, agentWorkers: 1 },
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
export const meshless: readonly SuiteName[] = ['unit', 'contract', 'integration'];

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
 * The compiled test files of a suite, the slowest first, then by name. A file whose source is gone does not count: the
 * compiler leaves the output of a test that was moved or deleted in place.
 */
export function findTestFiles(search: TestFileSearch): string[] {
  const { suite, sourceDirectory, builtDirectory, filter, isSecondNode = false } = search;
  const { directory, files, slowest: early = /^$/, sameWithAnyNode: same = [] }: TestSuite = suites[suite];
  const suiteDirectory = path.join(builtDirectory, directory);
  if (!existsSync(suiteDirectory)) return [];
  return readdirSync(suiteDirectory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js') && (files === undefined || files.test(file)))
    .map((file) => path.join(directory, file))
    .filter((file) => existsSync(path.join(sourceDirectory, file.replace(/\.js$/, '.ts'))))
    .filter((file) => filter === null || filter.test(file))
    .filter((file) => !isSecondNode || !same.some((each) => each.test(file)))
    .sort((a, b) => Number(early.test(b)) - Number(early.test(a)) || (a < b ? -1 : 1))
    .map((file) => path.join(builtDirectory, file));
}

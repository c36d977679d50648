/**
 * What starts a program: one of the two daemons (`agent`, `controller`), the build, the lab that demo, tests and benchmark
 * stand on, one of these three, or the tests on a cluster (`kubernetes`), whose nodes have the same PATH.
 */
export type ProgramUse = 'agent' | 'controller' | 'build' | 'lab' | 'demo' | 'tests' | 'bench' | 'kubernetes';

/** A program that something here starts, and its Debian packages. */
export type Requirement = {
  readonly command: string;
  /** Debian packages that bring it. */
  readonly packages: readonly string[];
  readonly why: string;
  /** A file that must also exist. */
  readonly file?: string;
};

export type DeclaredProgram = Omit<Requirement, 'why'> & {
  /** What each use starts it for. */
  readonly uses: Readonly<Partial<Record<ProgramUse, string>>>;
};

/** What a run needs in addition to its own programs: the lab, and what runs in it. */
export const usesOfRun = {
  lab: ['lab'],
  demo: ['demo', 'lab', 'agent', 'controller', 'build'],
  tests: ['tests', 'demo', 'lab', 'agent', 'controller', 'build'],
  bench: ['bench', 'lab', 'agent', 'controller', 'build'],
  kubernetes: ['kubernetes', 'lab', 'agent', 'controller', 'build'],
} as const satisfies Readonly<Record<string, readonly ProgramUse[]>>;
export type RunKind = keyof typeof usesOfRun;

const shell = 'scripts of several commands run in one shell';
const ldd = 'finds the libraries that an image needs';

/**
 * Every program that the product, the demo, the tests and the benchmark start, and that those programs start in turn. Runs
 * have a PATH of exactly these (`enterDeclaredPath`), so that a program that is missing here fails on every machine.
 */
export const declaredPrograms: readonly DeclaredProgram[] = [
  {
    command: 'ip',
    packages: ['iproute2'],
    uses: { agent: 'policy routing of replies', lab: 'hosts and workloads are network namespaces' },
  },
  { command: 'ss', packages: ['iproute2'], uses: { tests: 'lists the listening sockets of a namespace' } },
  ...capturePrograms(),
  {
    command: 'nsenter',
    packages: ['util-linux'],
    uses: { agent: 'loads rules inside a namespace', lab: 'runs commands inside a namespace' },
  },
  {
    command: 'unshare',
    packages: ['util-linux'],
    uses: {
      agent: 'culvert-agent check tries rules in a network namespace of its own',
      lab: 'installs packages without starting their services',
      tests: 'runs programs without a network, or with mounts of their own',
      kubernetes: 'a node has namespaces of its own',
    },
  },
  {
    command: 'setpriv',
    packages: ['util-linux'],
    uses: {
      controller: 'ends nats-server when the controller dies',
      tests: 'runs the agent without root',
      bench: 'runs attackers without root',
    },
  },
  {
    command: 'pivot_root',
    packages: ['util-linux'],
    uses: { tests: 'enters the root of a fresh Debian', kubernetes: 'a node enters its own root' },
  },
  { command: 'setsid', packages: ['util-linux'], uses: { tests: 'starts a daemon that leaves its process group' } },
  {
    command: 'prlimit',
    packages: ['util-linux'],
    uses: { tests: 'a test runs out of file descriptors on purpose', bench: 'allows 10,000 connections' },
  },
  {
    command: 'mount',
    packages: ['mount'],
    uses: {
      lab: 'gives a program directories of its own',
      tests: 'small disks',
      kubernetes: 'mounts of nodes and pods',
    },
  },
  {
    command: 'umount',
    packages: ['mount'],
    uses: { tests: 'small disks, and what a killed test has mounted', kubernetes: 'mounts of nodes and pods' },
  },
  {
    command: 'sysctl',
    packages: ['procps'],
    uses: { lab: 'a namespace gets network settings of its own' },
  },
  {
    command: 'nft',
    packages: ['nftables'],
    uses: { tests: 'reads and damages what iptables left in the kernel', kubernetes: 'kube-proxy loads its rules' },
  },
  {
    command: 'tcpdump',
    packages: ['tcpdump'],
    uses: {
      demo: 'shows what is on the wire',
      tests: 'what is on the wire is captured, not asserted',
      kubernetes: 'what pods put on the wire when they start',
    },
  },
  {
    command: 'nats-server',
    packages: ['nats-server'],
    uses: { controller: 'stores and distributes rules' },
  },
  {
    command: 'redis-server',
    packages: ['redis-server'],
    uses: { demo: 'an application behind the mesh', bench: 'an application behind the mesh' },
  },
  { command: 'redis-cli', packages: ['redis-tools'], uses: { demo: 'the client of redis' } },
  { command: 'redis-benchmark', packages: ['redis-tools'], uses: { bench: 'loads with small messages' } },
  {
    command: 'nginx',
    packages: ['nginx'],
    uses: { demo: 'an application behind the mesh', bench: 'an application behind the mesh' },
  },
  {
    command: 'sshd',
    packages: ['openssh-server'],
    uses: { demo: 'an application whose server speaks first', bench: 'an application whose server speaks first' },
  },
  { command: 'ssh', packages: ['openssh-client'], uses: { demo: 'the client of sshd' } },
  { command: 'ssh-keygen', packages: ['openssh-client'], uses: { demo: 'the keys of sshd and its client' } },
  { command: 'curl', packages: ['curl'], uses: { demo: 'an HTTP client' } },
  { command: 'wrk', packages: ['wrk'], uses: { bench: 'loads with HTTP requests' } },
  { command: 'iperf3', packages: ['iperf3'], uses: { bench: 'loads with bytes' } },
  { command: 'socat', packages: ['socat'], uses: { tests: 'a TCP client that reads and writes as it is told' } },
  { command: 'perl', packages: ['perl-base'], uses: { tests: 'reads socket options that Node does not know' } },
  { command: 'fish', packages: ['fish'], uses: { tests: 'the completion for it is tried' } },
  { command: 'zsh', packages: ['zsh'], uses: { tests: 'the completion for it is tried' } },
  { command: 'openssl', packages: ['openssl'], uses: { tests: 'judges certificates and keys that we issued' } },
  { command: 'nghttp', packages: ['nghttp2-client'], uses: { tests: 'an HTTP/2 client that we did not write' } },
  { command: 'h2load', packages: ['nghttp2-client'], uses: { tests: 'many of its streams at once' } },
  {
    command: 'gcc',
    packages: ['gcc', 'libc6-dev'],
    uses: { build: 'builds the native addon' },
    file: '/usr/include/stdio.h',
  },
  { command: 'as', packages: ['binutils'], uses: { build: 'gcc starts it' } },
  { command: 'ld', packages: ['binutils'], uses: { build: 'gcc starts it' } },
  {
    command: 'bash',
    packages: ['bash'],
    uses: {
      lab: 'marker packets of a capture',
      tests: 'commands of the documents, and what stands in for kubectl',
      kubernetes: 'becomes the first process of a node',
    },
  },
  {
    command: 'sh',
    packages: ['dash'],
    uses: { agent: 'reads rules and routes of a namespace at once', lab: shell, build: 'npm runs scripts with it' },
  },
  { command: 'grep', packages: ['grep'], uses: { tests: shell } },
  { command: 'getent', packages: ['libc-bin'], uses: { tests: 'looks a name up as programs do' } },
  { command: 'useradd', packages: ['passwd'], uses: { tests: 'commands of the documents' } },
  { command: 'userdel', packages: ['passwd'], uses: { tests: 'commands of the documents' } },
  { command: 'mmdebstrap', packages: ['mmdebstrap'], uses: { tests: 'makes the root of a fresh Debian' } },
  {
    command: 'tar',
    packages: ['tar'],
    uses: { tests: 'unpacks the package that npm makes', kubernetes: 'makes images' },
  },
  { command: 'gzip', packages: ['gzip'], uses: { tests: 'tar starts it' } },
  { command: 'ldd', packages: ['libc-bin'], uses: { tests: ldd, kubernetes: ldd } },
  { command: 'hostname', packages: ['hostname'], uses: { kubernetes: 'names a node' } },
  { command: 'apt-get', packages: ['apt'], uses: { kubernetes: 'downloads libseccomp, without installing it' } },
  { command: 'dpkg-deb', packages: ['dpkg'], uses: { kubernetes: 'unpacks it' } },
  ...coreutils(),
];

/** Several back ends of the same package: which one runs depends on the rules that the host has already. */
function capturePrograms(): DeclaredProgram[] {
  return ['iptables', 'ip6tables'].flatMap((family) => {
    const what = family === 'iptables' ? 'captures TCP' : 'captures TCP over IPv6';
    const parts = ['', '-save', '-restore'];
    return [
      ...parts.map((part) => ({ command: `${family}${part}`, packages: ['iptables'], uses: { agent: what } })),
      ...['legacy', 'nft'].flatMap((kind) =>
        parts.map((part) => ({
          command: `${family}-${kind}${part}`,
          packages: ['iptables'],
          uses: { tests: `each back end of iptables ${what}`, kubernetes: 'images have each back end of iptables' },
        })),
      ),
    ];
  });
}

/** Debian has them in every installation; they stand here so that a PATH of declared programs has them too. */
function coreutils(): DeclaredProgram[] {
  const uses: Readonly<Record<string, DeclaredProgram['uses']>> = {
    cat: { agent: 'reads the sockets of a namespace', tests: shell, kubernetes: 'writes files of a node' },
    chmod: { tests: shell },
    chown: { tests: shell },
    cp: { tests: shell, kubernetes: shell },
    env: { lab: 'sets variables of a program inside a namespace', build: 'finds node for the scripts of npm' },
    mkdir: { lab: shell },
    readlink: { lab: shell },
    rm: { tests: shell, kubernetes: shell },
    seq: { tests: shell },
    sleep: { tests: shell, kubernetes: 'pods that wait' },
    tail: { demo: 'follows the log of an agent' },
    true: { lab: 'stands in for tools that start services', kubernetes: 'probes' },
    rmdir: { kubernetes: shell },
    ln: { tests: 'commands of the documents' },
    touch: { tests: shell },
    install: { tests: 'commands of the documents' },
  };
  return Object.entries(uses).map(([command, each]) => ({ command, packages: ['coreutils'], uses: each }));
}

/** The programs of a run, with the reasons of its uses. */
export function requirementsOf(run: RunKind): Requirement[] {
  const uses: readonly ProgramUse[] = usesOfRun[run];
  return declaredPrograms.flatMap(({ command, packages, file, uses: reasons }) => {
    const why = uses.flatMap((use) => reasons[use] ?? []);
    return why.length === 0 ? [] : [{ command, packages, why: why[0] ?? '', ...(file === undefined ? {} : { file }) }];
  });
}

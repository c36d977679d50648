import { execFile } from 'node:child_process';

/** What the registry knows against the packages of a lock file. */
export type AuditResult =
  | { readonly kind: 'unanswered'; readonly why: string }
  | { readonly kind: 'answered'; readonly grave: readonly string[]; readonly other: readonly string[] };

/** The parts of the JSON of `npm audit` that are read here. `via` has the advisories, or names of packages that have some. */
type Report = {
  readonly auditReportVersion?: number;
  readonly message?: string;
  readonly vulnerabilities?: Readonly<Record<string, Vulnerability>>;
};
type Vulnerability = {
  readonly severity: string;
  readonly via: readonly (string | { readonly title: string; readonly url: string })[];
};

const graveSeverities: readonly string[] = ['high', 'critical'];

/**
 * Asks the registry with `npm audit` for known vulnerabilities of the production packages in the lock file of `directory`. A
 * vulnerability of severity high or critical is `grave`. Does not throw: a registry that cannot be reached, that has no such
 * service, or that does not answer within `timeoutMs` is `unanswered`.
 */
export function auditPackages({
  directory,
  registry,
  timeoutMs = 60_000,
}: {
  readonly directory: string;
  /** A URL; without it, the one that npm is set to. */
  readonly registry?: string;
  readonly timeoutMs?: number;
}): Promise<AuditResult> {
  const args = ['audit', '--json', '--omit=dev', '--package-lock-only', '--fetch-retries=0', '--loglevel=silent'];
  if (registry !== undefined) args.push(`--registry=${registry}`);
  return new Promise((resolve) => {
    const options = { cwd: directory, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 ** 2 } as const;
    // It exits with 1 for vulnerabilities and for failures alike: what it wrote tells.
    execFile('npm', args, options, (error, stdout) => {
      if (error?.killed === true) return resolve({ kind: 'unanswered', why: `no answer in ${timeoutMs / 1000} s` });
      resolve(readReport(stdout, error?.message));
    });
  });
}

function readReport(text: string, failure = 'npm wrote no report'): AuditResult {
  const report = parse(text);
  if (report?.auditReportVersion === undefined || report.vulnerabilities === undefined) {
    return { kind: 'unanswered', why: (report?.message ?? failure).split('\n', 1)[0] ?? '' };
  }
  const found = Object.entries(report.vulnerabilities);
  const isGrave = ({ severity }: Vulnerability): boolean => graveSeverities.includes(severity);
  const line = ([name, { severity, via }]: (typeof found)[number]): string =>
    `${name}: ${severity}: ${via.map(cause).join('; ')}`;
  return {
    kind: 'answered',
    grave: found.filter(([, each]) => isGrave(each)).map(line),
    other: found.filter(([, each]) => !isGrave(each)).map(line),
  };
}

function cause(via: Vulnerability['via'][number]): string {
  return typeof via === 'string' ? `through ${via}` : `${via.title} (${via.url})`;
}

function parse(text: string): Report | null {
  try {
    return JSON.parse(text) as Report | null;
  } catch {
    return null;
  }
}

import { hostname } from 'node:os';
import type { Log } from '../../shared/log.js';
import type { SigningKey } from '../../shared/pki/signing-key.js';
import { httpsAddress } from '../config/https-address.js';
import type { ControllerSettings } from '../config/settings.js';
import { kubernetesSource, type InventorySource } from '../inventory/inventory-source.js';
import { EnrolmentPublisher } from '../publish/enrolment-publisher.js';
import { customKindNames } from '../resources/custom/custom-kinds.js';
import { admissionAnswer, readAdmission } from './admission.js';
import { ClusterEvents, type EventFacts, type NodeProblems } from './cluster-events.js';
import { ClusterRules, type RuleFacts, type RuleStore } from './cluster-rules.js';
import { foreignRuleKinds } from './foreign-rule-kinds.js';
import { Installation } from './installation.js';
import { ownRuleKind } from './rule-object.js';
import { KubernetesApi } from './kubernetes-api.js';
import { KubernetesSource } from './kubernetes-source.js';
import type { KubernetesState } from './kubernetes-state.js';
import { PublishedRoots, publishEveryMs, rootsForAgents, rootsForWebhook } from './published-roots.js';
import { StartupTaint, type NodeFacts } from './startup-taint.js';
import { reviewToken, type ReviewedToken } from './token-review.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

/** The DaemonSet of the agents and their service account, in the namespace of the controller. */
const agentAccount = 'culvert-agent';

/** The cluster that a controller belongs to. */
export interface Cluster extends AsyncDisposable {
  readonly state: KubernetesState;
  /** Tells each node which pods wait for its agent; the owner runs it. */
  readonly enrolments: EnrolmentPublisher;
  /** Whether a token is that of an agent's pod. */
  readonly review: (token: string) => Promise<ReviewedToken>;
  /** The agents' DaemonSet was deleted. */
  readonly isUninstalled: boolean;
  /**
   * Answers a question of its API server about an object that is about to be written, until `signal` says that it is gone;
   * null: it is not to ask.
   */
  readonly admit: ((body: Buffer, signal: AbortSignal) => Promise<object>) | null;
  /** Takes its custom resources for rules from now on; call it once. */
  readonly followRules: (init: { readonly store: RuleStore; readonly facts: RuleFacts }) => void;
  /** Tells what the mesh knows of objects of the cluster as events from now on; call it once. */
  readonly tellEvents: (facts: EventFacts) => void;
  /** Takes the startup taint off nodes from now on, where the settings say so; call it once. */
  readonly takeTaints: (facts: NodeFacts) => void;
}

const reviewTimeoutMs = 10_000;

/** The cluster that the settings name; null: none. Follows it from now on. Errors: `CONFIG_INVALID`. */
export function openCluster(init: {
  readonly settings: Pick<
    ControllerSettings,
    | 'kubernetesApi'
    | 'kubernetesCaFile'
    | 'kubernetesTokenFile'
    | 'kubernetesNamespace'
    | 'kubernetesWebhook'
    | 'kubernetesPolicies'
    | 'kubernetesAmbient'
    | 'kubernetesStartupTaint'
    | 'trustDomain'
  >;
  readonly source: (name: string) => InventorySource;
  /** PEM of the roots of the mesh. */
  readonly rootsPem: () => string;
  readonly signingKey: SigningKey;
  /** Where the API server asks about rules; no other knows it. */
  readonly admissionPath: string;
  readonly nowMs: () => number;
  readonly log: Log;
  /** {@link Cluster.isUninstalled} may have changed. */
  readonly onInstallation: () => void;
}): Cluster | null {
  const { kubernetesApi, kubernetesCaFile, kubernetesTokenFile, kubernetesNamespace, kubernetesWebhook, trustDomain } =
    init.settings;
  if (kubernetesApi === null) {
    // What an earlier run knew of a cluster is not kept for ever.
    void init
      .source(kubernetesSource)
      .replaceAll([])
      .catch((error: unknown) =>
        init.log.error({ err: error }, 'pods of a cluster that is not followed cannot be removed'),
      );
    return null;
  }
  const url = httpsAddress(kubernetesApi, '--kubernetes-api');
  const api = new KubernetesApi({ url, caFile: kubernetesCaFile, tokenFile: kubernetesTokenFile });
  const source = new KubernetesSource({
    api,
    source: init.source(kubernetesSource),
    trustDomain,
    ownNamespace: kubernetesNamespace,
    takesAmbient: init.settings.kubernetesAmbient,
    log: init.log,
  });
  const enrolments = new EnrolmentPublisher({
    enrolments: () => source.enrolments,
    privateKeyPem: init.signingKey.privateKey,
    nowMs: init.nowMs,
    log: init.log,
  });
  source.onChange(() => enrolments.noteChange());
  source.start();
  const installation = new Installation({
    api,
    namespace: kubernetesNamespace,
    daemonSet: agentAccount,
    log: init.log,
    onChange: init.onInstallation,
  });
  const { rootsPem, log } = init;
  const own = customKindNames.map(ownRuleKind);
  const kinds = [...own, ...foreignRuleKinds(init.settings.kubernetesPolicies ?? [])];
  const places = [
    rootsForAgents(kubernetesNamespace),
    ...(kubernetesWebhook === null
      ? []
      : [rootsForWebhook(kubernetesWebhook, kubernetesNamespace, init.admissionPath)]),
  ];
  const roots = places.map((place) => new PublishedRoots({ api, place, rootsPem, log }));
  let again: NodeJS.Timeout | undefined;
  let isClosed = false;
  // An installation may make the objects after this controller has started, and others may write over them.
  const keepRoots = async (): Promise<void> => {
    await Promise.all(roots.map((each) => each.publish()));
    if (!isClosed) again = setTimeout(() => void keepRoots(), publishEveryMs);
  };
  void keepRoots();
  let rules: ClusterRules | null = null;
  let events: ClusterEvents | null = null;
  let taints: StartupTaint | null = null;
  const account = `${kubernetesNamespace}:${agentAccount}`;
  return {
    get state() {
      const { state } = source;
      const more = [...roots.map(({ problem }) => problem), enrolments.problem].filter((problem) => problem !== null);
      const problems = [...state.problems, ...more];
      return {
        ...state,
        problems,
        overwritten: roots.flatMap(({ overwritten }) => overwritten ?? []),
        eventsProblem: events?.problem ?? null,
        taintsProblem: taints?.problem ?? null,
        ...(rules === null ? {} : { rules: rules.state }),
      };
    },
    followRules: ({ store, facts }) => {
      rules = new ClusterRules({ api, kinds, store, facts, log, nowMs: init.nowMs });
      rules.start();
    },
    tellEvents: (facts) => {
      const taintedNodes = (): NodeProblems => taints?.nodeProblems ?? new Map();
      events = new ClusterEvents({
        api,
        facts,
        taintedNodes,
        objects: source,
        instance: hostname(),
        nowMs: init.nowMs,
        log,
      });
      events.start();
    },
    takeTaints: (facts) => {
      if (!init.settings.kubernetesStartupTaint) return;
      taints = new StartupTaint({ api, nodes: () => source.nodes, facts, log });
      taints.start();
    },
    enrolments,
    get isUninstalled() {
      return installation.isUninstalled;
    },
    admit:
      kubernetesWebhook === null
        ? null
        : async (body, signal) => {
            const question = readAdmission(body, own);
            const problems =
              question.object === null ? [] : await rules?.judge(question.object, question.asker, signal);
            return admissionAnswer(question, problems ?? []);
          },
    review: (token) => reviewToken(api, { token, account }, timeoutSignal(reviewTimeoutMs)),
    [Symbol.asyncDispose]: async () => {
      isClosed = true;
      clearTimeout(again);
      await events?.[Symbol.asyncDispose]();
      await taints?.[Symbol.asyncDispose]();
      await rules?.[Symbol.asyncDispose]();
      await Promise.all([source, installation].map((each) => each[Symbol.asyncDispose]()));
      api.close();
    },
  };
}

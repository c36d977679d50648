type Expression = { readonly key: string; readonly operator: string; readonly values?: readonly string[] };

/** What a pod says of the nodes that it may be on. */
export type PlacedPod = {
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly affinity?: {
    readonly nodeAffinity?: {
      readonly requiredDuringSchedulingIgnoredDuringExecution?: {
        readonly nodeSelectorTerms: readonly {
          readonly matchExpressions?: readonly Expression[];
          readonly matchFields?: readonly Expression[];
        }[];
      };
    };
  };
};

type Labelled = { readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> } };

/** Whether its labels have a node take a pod, as the scheduler judges it: taints and resources are not looked at. */
export function fitsNode({ nodeSelector = {}, affinity }: PlacedPod, { metadata }: Labelled): boolean {
  const labels = metadata.labels ?? {};
  if (!Object.entries(nodeSelector).every(([key, value]) => labels[key] === value)) return false;
  const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  if (required === undefined) return true;
  const fields = { 'metadata.name': metadata.name };
  return required.nodeSelectorTerms.some(
    ({ matchExpressions = [], matchFields = [] }) =>
      // A term without a requirement fits no node.
      matchExpressions.length + matchFields.length > 0 &&
      matchExpressions.every((each) => holds(each, labels)) &&
      matchFields.every((each) => holds(each, fields)),
  );
}

function holds(
  { key, operator, values = [] }: Expression,
  labels: Readonly<Record<string, string | undefined>>,
): boolean {
  const value = labels[key];
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return Number(value) > Number(values[0]);
    case 'Lt':
      return Number(value) < Number(values[0]);
    default:
      return false;
  }
}

import { stringify } from 'yaml';
import { customDefinitions } from '../../controller/resources/custom/custom-definitions.js';
import { version } from '../../shared/version.js';

export const crdChart = 'deploy/helm/culvert-crds';

/** The chart with the definitions of our kinds: each definition in a file, and what the chart says of itself. */
export function crdChartFiles(): readonly { readonly file: string; readonly text: string }[] {
  return [{ file: `${crdChart}/Chart.yaml`, text: chartText }, ...customDefinitions().map(templateOf)];
}

const chartText = `# Made by npm run docs.
apiVersion: v2
name: culvert-crds
description: Definitions of the custom resources of Culvert, which stay in a cluster when the chart is removed
type: application
version: ${version}
appVersion: ${version}
kubeVersion: '>=1.25.0-0'
`;

/** Templates, and not the folder `crds`, because Helm upgrades nothing that is there. */
function templateOf(definition: ReturnType<typeof customDefinitions>[number]) {
  // Without their definitions all rules of a cluster are gone.
  const annotations = { 'helm.sh/resource-policy': 'keep' };
  const kept = { ...definition, metadata: { ...definition.metadata, annotations } };
  // Kubernetes reads YAML 1.1, where "off" is no text.
  const text = stringify(kept, { lineWidth: 0, version: '1.1', aliasDuplicateObjects: false });
  if (text.includes('{{')) throw new Error('Helm would take a part of the definition for a template of its own');
  return { file: `${crdChart}/templates/${definition.metadata.name}.yaml`, text: `# Made by npm run docs.\n${text}` };
}
